// The dialog that makes a credential: choose, name, scope, Authorize, Connected!, Save.
//
// - Authorize makes a PENDING credential. Trying again resumes the same one; only another service
//   or other parameters need a new one, and then the old one is deleted first.
// - Save sends what was changed since. Cancel, in whatever state, leaves nothing behind.
// - A page that is reloaded half-way leaves a PENDING credential in the list, where it can be
//   finished or deleted; the vault clears it away after a day.

import * as api from "./api.js";
import { authorize } from "./authorize.js";
import { clearProgress, element, showProgress } from "./progress.js";

const dialog = document.querySelector("#dialog");
const form = dialog.querySelector("form");
const service = dialog.querySelector("#service");
const serviceHint = dialog.querySelector("#service-hint");
const name = dialog.querySelector("#name");
const params = dialog.querySelector("#params");
const permissions = dialog.querySelector("#permissions");
const authorizeButton = dialog.querySelector("#authorize");
const progress = dialog.querySelector(".progress");
const cancelButton = dialog.querySelector("#cancel");
const saveButton = dialog.querySelector("#save");

let connectors = new Map();
let whenSaved = () => {};

// One opening of the dialog. `credential` is what the vault has, `asked` what it was made from.
let session = null;

export function prepareDialog({ catalogue, onSaved }) {
  connectors = catalogue;
  whenSaved = onSaved;
  service.replaceChildren(
    element("option", { text: "Choose a service", value: "" }),
    ...[...connectors.values()].map((each) =>
      element("option", {
        text: each.configured ? each.display_name : `${each.display_name} (not set up)`,
        value: each.key,
        disabled: !each.configured,
      }),
    ),
  );
}

export function openDialog() {
  form.reset();
  session = { credential: null, asked: "", suggested: "", endTrip: () => {}, connected: false };
  clearProgress(progress);
  chooseService();
  draw({ busy: false });
  dialog.showModal();
  service.focus();
}

service.addEventListener("change", chooseService);
authorizeButton.addEventListener("click", startTrip);
cancelButton.addEventListener("click", cancel);
dialog.addEventListener("cancel", (event) => {
  // Escape is Cancel, and Cancel has something to do before the dialog may close.
  event.preventDefault();
  cancel();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
form.addEventListener("input", ({ target }) => {
  target.setCustomValidity?.("");
  target.removeAttribute("aria-invalid");
});

function chooseService() {
  const connector = connectors.get(service.value);
  serviceHint.textContent = connector?.admin_approval ?? "";
  serviceHint.hidden = !serviceHint.textContent;

  if (name.value === session.suggested) {
    name.value = connector?.display_name ?? "";
  }
  session.suggested = connector?.display_name ?? "";

  params.replaceChildren(
    ...(connector?.connection_params ?? []).flatMap((param) => {
      const id = `param-${param.key}`;
      const input = element("input", {
        id,
        name: param.key,
        value: param.default_value,
        placeholder: param.example,
        required: !param.default_value,
        autocomplete: "off",
        spellcheck: false,
      });
      input.dataset.pattern = param.pattern;
      input.setAttribute("aria-describedby", `${id}-hint`);
      const title = param.key.charAt(0).toUpperCase() + param.key.slice(1).replaceAll("_", " ");
      return [
        element("label", { text: title, htmlFor: id }),
        input,
        element("p", { className: "hint", id: `${id}-hint`, text: param.description }),
      ];
    }),
  );

  const described = new Map(connector?.permissions.map((each) => [each.scope, each.description]));
  const scopes = connector?.default_scopes ?? [];
  permissions.hidden = scopes.length === 0;
  permissions
    .querySelector("ul")
    .replaceChildren(...scopes.map((scope) => element("li", { text: described.get(scope) || scope })));
}

function startTrip() {
  if (authorizeButton.ariaDisabled === "true" || !valid()) {
    return;
  }
  const asked = askedNow();
  const { display_name, credential_scope } = fields();
  const trip = session;
  trip.endTrip = authorize({
    begin: async () => {
      if (trip.credential && trip.asked === asked) {
        return api.reauthenticate(trip.credential.id);
      }
      if (trip.credential) {
        await api.remove(trip.credential.id);
        trip.credential = null;
      }
      const begun = await api.begin({ ...JSON.parse(asked), display_name, credential_scope });
      trip.credential = begun.credential;
      trip.asked = asked;
      if (trip !== session) {
        // Cancelled while the answer was on its way.
        await api.remove(begun.credential.id);
      }
      return begun;
    },
    show: (step) => trip === session && showStep(step),
  });
}

function showStep(step) {
  const { display_name: serviceName } = connectors.get(service.value);
  showProgress(progress, { service: serviceName, ...step });
  if (step.credential) {
    session.credential = step.credential;
  }
  if (step.state === "connected") {
    session.connected = true;
    const missing = step.credential.missing_scopes;
    if (missing.length > 0) {
      progress.append(element("p", { className: "missing", text: missingSentence(missing) }));
    }
  }
  for (const { field, description } of step.error?.fields ?? []) {
    pointOut(field, description);
  }
  draw({ busy: step.state === "opening" || step.state === "waiting", again: step.state === "failed" });
  if (step.state === "connected") {
    saveButton.focus();
  }
}

/** Says which OAuth scopes were asked for and not granted. */
export function missingSentence(scopes) {
  return `Not granted: ${scopes.join(", ")}. Steps that need them will fail until you re-authenticate.`;
}

function draw({ busy, again = false }) {
  const { connected } = session;
  // Not `disabled`: the button was just clicked, and focus should stay where the person is.
  authorizeButton.ariaDisabled = String(busy || connected);
  authorizeButton.classList.toggle("done", connected);
  authorizeButton.textContent = connected
    ? "Connected!"
    : busy
      ? "Waiting…"
      : again
        ? "Try again"
        : "Authorize";
  for (const input of [service, ...params.querySelectorAll("input")]) {
    input.disabled = busy || connected;
  }
  saveButton.disabled = !connected;
}

async function save() {
  if (!session.connected || !valid()) {
    return;
  }
  const { id, etag, ...before } = session.credential;
  const changes = Object.fromEntries(
    Object.entries(fields()).filter(([key, value]) => before[key] !== value),
  );
  saveButton.disabled = true;
  try {
    if (Object.keys(changes).length > 0) {
      await api.save(id, { ...changes, etag });
    }
  } catch (error) {
    showProgress(progress, { state: "failed", sentence: error.message, error });
    if (error.reason === "ETAG_MISMATCH") {
      // Somebody else changed it meanwhile; a second Save is then meant.
      session.credential = await api.credential(id).catch(() => session.credential);
    }
    saveButton.disabled = false;
    return;
  }
  close();
  whenSaved(id);
}

async function cancel() {
  const { credential } = session;
  close();
  if (credential) {
    // It is gone already if the vault cleared it away; whatever else is wrong shows in the list.
    await api.remove(credential.id).catch(() => {});
    whenSaved(null);
  }
}

function close() {
  session.endTrip();
  session = null;
  dialog.close();
}

function fields() {
  return {
    display_name: name.value.trim(),
    credential_scope: form.elements.scope.value,
  };
}

/** What cannot be changed later, as a text that can be compared. */
function askedNow() {
  return JSON.stringify({
    connector: service.value,
    connection_params: Object.fromEntries(
      [...params.querySelectorAll("input")].map((input) => [input.name, input.value.trim()]),
    ),
  });
}

function valid() {
  name.setCustomValidity(name.value.trim() ? "" : "Give it a name.");
  for (const input of params.querySelectorAll("input")) {
    input.setCustomValidity(matches(input) ? "" : `Not what is expected, such as ${input.placeholder}`);
  }
  return form.reportValidity();
}

/** The vault decides; this only saves a trip. A pattern that is not JavaScript's is left to it. */
function matches({ value, dataset: { pattern } }) {
  if (!pattern || !value.trim()) {
    return true;
  }
  try {
    return new RegExp(`^(?:${pattern})$`, "u").test(value.trim());
  } catch {
    return true;
  }
}

function pointOut(field, description) {
  const inputs = { display_name: name, connector: service };
  const input = inputs[field] ?? document.getElementById(`param-${field.split(/[.[\]"']+/)[1]}`);
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.setCustomValidity(description);
  }
}
