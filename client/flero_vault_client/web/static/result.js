// Tells a waiting dialog what happened, then closes the tab if there is nothing left to read.
//
// A BroadcastChannel and not window.opener: many services cut the opener off on their way
// (Cross-Origin-Opener-Policy). It reaches pages of this origin only, and carries words, not
// proof: what is connected the dialog asks the vault.

// Long enough to be read as "it worked".
const CLOSE_AFTER_MS = 1200;

const { connected, credential, reason } = document.querySelector("main").dataset;

const channel = new BroadcastChannel("flero-oauth");
channel.postMessage({
  connected: connected === "true",
  credential,
  reason,
  sentence: document.querySelector("#sentence").textContent,
});
channel.close();

if (connected === "true") {
  // A browser may refuse to close a tab that no script opened; the page says so in words.
  setTimeout(() => window.close(), CLOSE_AFTER_MS);
}
