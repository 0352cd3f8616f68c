// Puts the page together.

import * as api from "./api.js";
import { openDialog, prepareDialog } from "./dialog.js";
import { pointAt, prepareList, refreshList, say } from "./list.js";

const newButton = document.querySelector("#new");

async function start() {
  let catalogue;
  try {
    catalogue = new Map((await api.connectors()).map((each) => [each.key, each]));
  } catch (error) {
    say(error.message);
    return;
  }
  prepareList({ catalogue });
  prepareDialog({
    catalogue,
    onSaved: async (id) => {
      await refreshList();
      pointAt(id);
    },
  });
  newButton.addEventListener("click", openDialog);
  // It starts disabled: a click before the catalogue is here would be lost.
  newButton.disabled = false;
  document.addEventListener("visibilitychange", () => {
    // Whoever comes back wants to know how things stand now, not when they left.
    if (document.visibilityState === "visible" && !document.querySelector("dialog[open]")) {
      refreshList();
    }
  });
  await refreshList();
}

start();
