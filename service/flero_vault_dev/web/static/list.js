// The credentials of this user: how each one stands, and what can be done about it.

import * as api from "./api.js";
import { authorize } from "./authorize.js";
import { missingSentence } from "./dialog.js";
import { clearProgress, element, showProgress } from "./progress.js";

const list = document.querySelector("#credentials");
const empty = document.querySelector("#empty");
const template = document.querySelector("#row");
const notice = document.querySelector("#notice");
const confirmDialog = document.querySelector("#confirm");

const STATUS = {
  PENDING: "Not finished",
  ACTIVE: "Connected",
  EXPIRED: "Expired",
  REVOKED: "Revoked",
};
const SCOPE = { PERSONAL: "Personal", WORKSPACE: "Workspace" };

let connectors = new Map();
const rows = new Map();

export function prepareList({ catalogue }) {
  connectors = catalogue;
}

/** Reads the list again. Rows stay the same elements, so that a trip under way goes on. */
export async function refreshList() {
  let credentials;
  try {
    credentials = await api.credentials();
  } catch (error) {
    say(error.message);
    return;
  }
  say("");
  const seen = new Set(credentials.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (!seen.has(id)) {
      row.endTrip();
      row.card.remove();
      rows.delete(id);
    }
  }
  for (const credential of credentials) {
    const row = rows.get(credential.id) ?? newRow(credential.id);
    row.draw(credential);
  }
  empty.hidden = credentials.length > 0;
}

export function say(sentence) {
  notice.textContent = sentence;
  notice.hidden = !sentence;
}

/** Brings a row to the person's attention. */
export function pointAt(id) {
  rows.get(id)?.card.querySelector("button").focus();
}

function newRow(id) {
  const card = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  const progress = find(".progress");
  const row = { card, endTrip: () => {}, draw, credential: null };

  function draw(credential) {
    row.credential = credential;
    const service = serviceOf(credential);
    find(".tile").textContent = service.charAt(0);
    find("h3").textContent = credential.display_name;
    find("h3").id = `name-${credential.id}`;
    card.setAttribute("aria-labelledby", find("h3").id);
    const account =
      credential.account && credential.status === "ACTIVE"
        ? `Connected as ${credential.account}`
        : credential.account;
    const until = credential.reauthenticate_by_time
      ? `Re-authenticate by ${new Date(credential.reauthenticate_by_time).toLocaleDateString()}`
      : "";
    find(".account").textContent = [service, SCOPE[credential.credential_scope], account, until]
      .filter(Boolean)
      .join(" · ");
    find(".badge").textContent = STATUS[credential.status];
    find(".badge").className = `badge ${credential.status.toLowerCase()}`;
    sentence(find(".reason"), reasonOf(credential, service));
    sentence(
      find(".missing"),
      credential.missing_scopes.length > 0 ? missingSentence(credential.missing_scopes) : "",
    );
    find("[data-do=reauthenticate]").textContent =
      credential.status === "PENDING" ? "Finish authorizing" : "Re-authenticate";
    find("[data-do=check]").hidden = credential.status !== "ACTIVE";
    find("[data-do=revoke]").hidden = !["ACTIVE", "EXPIRED"].includes(credential.status);
  }

  const actions = {
    reauthenticate: () => startTrip({}),
    check: () =>
      attempt(`Asking ${serviceOf(row.credential)}…`, async () => {
        const credential = await api.check(id);
        draw(credential);
        return credential.account
          ? `It works: ${credential.account} is connected.`
          : "It works: the service accepts the connection.";
      }),
    revoke: async () => {
      const service = serviceOf(row.credential);
      const answer = await confirm({
        title: `Revoke ${row.credential.display_name}?`,
        text: "Workflows that use it stop getting tokens at once. You can re-authenticate later.",
        option: `Also end the access at ${service}`,
        yes: "Revoke",
      });
      if (answer) {
        await attempt("Revoking…", async () => {
          const revoked = await api.revoke(id, { revoke_at_service: answer.option });
          draw(revoked.credential);
          return revocationSentence(revoked, service);
        });
      }
    },
    delete: async () => {
      const answer = await confirm({
        title: `Delete ${row.credential.display_name}?`,
        text: "Its tokens are destroyed, and workflows that refer to it stop working.",
        yes: "Delete",
      });
      if (answer) {
        await attempt("Deleting…", async () => {
          await api.remove(id);
          await refreshList();
          return "";
        });
      }
    },
  };

  function startTrip(options) {
    row.endTrip();
    row.endTrip = authorize({
      begin: () => api.reauthenticate(id, options),
      show: (step) => {
        showProgress(progress, { service: serviceOf(row.credential), ...step });
        if (step.state === "connected") {
          draw(step.credential);
        }
        if (step.state === "failed" && step.reason === "ACCOUNT_MISMATCH") {
          progress.append(
            " ",
            element("button", {
              type: "button",
              text: "Use the other account",
              onclick: () => startTrip({ allow_account_change: true }),
            }),
          );
        }
      },
    });
  }

  async function attempt(doing, act) {
    row.endTrip();
    showProgress(progress, { state: "working", sentence: doing });
    try {
      const done = await act();
      if (done) {
        showProgress(progress, { state: "working", sentence: done });
      } else {
        clearProgress(progress);
      }
    } catch (error) {
      showProgress(progress, { state: "failed", sentence: error.message, error });
      // The refusal may be news about the credential itself.
      draw(await api.credential(id).catch(() => row.credential));
    }
  }

  for (const button of card.querySelectorAll("[data-do]")) {
    // Called straight from the click: a trip has to open its tab before anything is awaited.
    button.addEventListener("click", actions[button.dataset.do]);
  }
  list.append(card);
  rows.set(id, row);
  return row;
}

function serviceOf({ connector }) {
  return connectors.get(connector)?.display_name ?? connector;
}

function reasonOf({ status, status_reason: reason }, service) {
  if (reason?.message) {
    return reason.message;
  }
  return {
    PENDING: `Nobody has finished authorizing at ${service} yet.`,
    ACTIVE: "",
    EXPIRED: `${service} no longer accepts this connection. Re-authenticate to use it again.`,
    REVOKED: "Stopped in Flero. Re-authenticate to use it again.",
  }[status];
}

function revocationSentence({ service_revocation: outcome, manage_url: url }, service) {
  const where = url ? ` You can end it at ${url}` : "";
  return {
    NOT_REQUESTED: `The access at ${service} was left as it is.`,
    DONE: `${service} ended the access.`,
    PENDING: `${service} has not confirmed yet that it ended the access; Flero goes on trying.`,
    UNSUPPORTED: `${service} offers no way to end the access from here.${where}`,
    FAILED: `${service} did not end the access.${where}`,
  }[outcome];
}

function sentence(place, text) {
  place.textContent = text;
  place.hidden = !text;
}

/** Asks; resolves to null for "Keep it", else to `{option}`. */
function confirm({ title, text, option = "", yes }) {
  confirmDialog.querySelector("h2").textContent = title;
  confirmDialog.querySelector("#confirm-text").textContent = text;
  const choice = confirmDialog.querySelector("#confirm-option");
  choice.hidden = !option;
  choice.querySelector("span").textContent = option;
  choice.querySelector("input").checked = true;
  confirmDialog.querySelector("#confirm-yes").textContent = yes;
  confirmDialog.returnValue = "";
  confirmDialog.showModal();
  return new Promise((resolve) => {
    confirmDialog.addEventListener(
      "close",
      () =>
        resolve(
          confirmDialog.returnValue === "yes"
            ? { option: choice.querySelector("input").checked }
            : null,
        ),
      { once: true },
    );
  });
}
