// The words below an "Authorize" or "Re-authenticate" button while a trip is under way.

import { openFromLink } from "./authorize.js";

/** Makes an element. Text is set as text, never parsed. */
export function element(tag, { text = "", ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...(text ? [text] : []), ...children);
  return made;
}

/** Shows one state of a trip in `place`; `service` is the service's own name. */
export function showProgress(place, { service, ...step }) {
  place.className = `progress ${step.state}`;
  place.replaceChildren(...words[step.state]({ service, ...step }));
}

export function clearProgress(place) {
  place.className = "progress";
  place.replaceChildren();
}

const words = {
  opening: ({ service }) => [`Opening ${service}…`],
  waiting: ({ service, url, blocked }) => [
    element("span", {
      text: blocked
        ? `Your browser blocked the tab for ${service}. `
        : `Continue in the tab of ${service}. Closed it? `,
    }),
    element("a", {
      text: "Open authorize page",
      href: url,
      target: "_blank",
      rel: "noopener noreferrer",
      onclick: openFromLink,
    }),
  ],
  connected: ({ credential }) => [
    credential.account ? `Connected as ${credential.account}` : "Connected",
  ],
  failed: ({ sentence, error }) => [
    element("span", { text: sentence }),
    ...(error?.helpUrl
      ? [
          " ",
          element("a", {
            text: "What to do",
            href: error.helpUrl,
            target: "_blank",
            rel: "noopener noreferrer",
          }),
        ]
      : []),
  ],
  working: ({ sentence }) => [sentence],
};
