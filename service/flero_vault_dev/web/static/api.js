// The JSON endpoints of this page's own server. Every failure is a Refused with a sentence.

export class Refused extends Error {
  constructor({ reason = "", message, fields = [], help_url: helpUrl = "" }) {
    super(message);
    this.reason = reason;
    this.fields = fields;
    this.helpUrl = helpUrl;
  }
}

const AWAY = { message: "The page cannot reach its server. Is it still running?" };

async function call(method, path, body) {
  const init = { method, headers: {} };
  if (method !== "GET") {
    // Even without content: the server takes changes as JSON only, which no foreign form can send.
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body ?? {});
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new Refused(AWAY);
  }
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Refused(answer.error ?? AWAY);
  }
  return answer;
}

const at = (id) => `/api/credentials/${encodeURIComponent(id)}`;

export const connectors = async () => (await call("GET", "/api/connectors")).connectors;
export const credentials = async () => (await call("GET", "/api/credentials")).credentials;
export const credential = async (id) => (await call("GET", at(id))).credential;
export const save = async (id, changes) => (await call("PATCH", at(id), changes)).credential;
export const remove = (id) => call("DELETE", at(id));
export const check = async (id) => (await call("POST", `${at(id)}/check`)).credential;
export const revoke = (id, options) => call("POST", `${at(id)}/revoke`, options);

// A request_id makes it safe to send the same request again; each click is a new one.
export const begin = (fields) =>
  call("POST", "/api/credentials", { ...fields, request_id: crypto.randomUUID() });
export const reauthenticate = (id, options = {}) =>
  call("POST", `${at(id)}/reauthenticate`, { ...options, request_id: crypto.randomUUID() });

export const eventsOf = (id) => `${at(id)}/events`;
