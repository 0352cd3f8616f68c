// One trip to a consent page and back.
//
// - The tab is opened inside the click, before anything is awaited: later a browser takes it for a
//   pop-up and blocks it. If it is blocked all the same, a link does the job.
// - The tab gets no handle on this page: a consent page must not be able to send it elsewhere.
// - What happened is learned from the vault, by the stream of the credential. The result page also
//   announces itself on a channel of this origin; that brings the words of a refusal, which the
//   credential need not carry, and makes us look again. It never makes anything "connected".

import * as api from "./api.js";

const OPENING = "Opening the service…";

/** Starts a trip. Call it first thing in a click handler.
 *
 * `begin` asks the server for `{credential, authorize_url, expire_time}`. `show` is called with
 * `{state: "opening" | "waiting" | "connected" | "failed", …}`. Returns a function that ends it.
 */
export function authorize({ begin, show }) {
  const tab = openTab();
  let end = () => tab?.close();
  let ended = false;
  show({ state: "opening" });
  const begins = begin().then((begun) => ({ ...begun, url: webUrl(begun.authorize_url) }));
  begins.then(
    ({ url, ...begun }) => {
      if (ended) {
        return;
      }
      if (tab) {
        tab.location.replace(url);
      }
      end = watch({ ...begun, show });
      show({ state: "waiting", url, blocked: tab === null, credential: begun.credential });
    },
    (error) => {
      tab?.close();
      if (!ended) {
        show({ state: "failed", reason: error.reason, sentence: error.message, error });
      }
    },
  );
  return () => {
    ended = true;
    end();
  };
}

/** Opens a link to the consent page so that the tab can close itself at the end, if it may. */
export function openFromLink(event) {
  const tab = openTab();
  if (tab) {
    event.preventDefault();
    tab.location.replace(event.currentTarget.href);
  }
}

function openTab() {
  const tab = window.open("", "_blank");
  if (tab) {
    tab.document.title = OPENING;
    tab.document.body.textContent = OPENING;
    tab.opener = null;
  }
  return tab;
}

function webUrl(url) {
  const { protocol } = new URL(url);
  if (protocol !== "https:" && protocol !== "http:") {
    // Anything else would run in the empty tab, which still has our origin.
    throw new TypeError("not a web address");
  }
  return url;
}

function watch({ credential: before, expire_time: expireTime, show }) {
  const stream = new EventSource(api.eventsOf(before.id));
  const channel = new BroadcastChannel("flero-oauth");
  const tooLate = setTimeout(
    () => fail("", "The page at the service was open for too long. Try again."),
    Math.max(0, Date.parse(expireTime) - Date.now()),
  );

  function end() {
    stream.close();
    channel.close();
    clearTimeout(tooLate);
  }

  function fail(reason, sentence) {
    end();
    show({ state: "failed", reason, sentence, credential: before });
  }

  function connected(credential) {
    end();
    show({ state: "connected", credential });
  }

  function judge(now) {
    const news = now.status_reason;
    if (now.status === "ACTIVE" && before.status !== "ACTIVE") {
      // Whatever there is to say beside, such as missing scopes: there is a grant.
      connected(now);
    } else if (news?.message && news.time !== before.status_reason?.time) {
      fail(news.reason, news.message);
    } else if (now.status === "ACTIVE" && now.etag !== before.etag) {
      connected(now);
    }
  }

  stream.addEventListener("credential", (event) => judge(JSON.parse(event.data)));
  stream.addEventListener("gone", () => fail("", "This credential was deleted meanwhile."));
  channel.addEventListener("message", async ({ data }) => {
    // A page that could not say which credential it was about speaks to whoever waits.
    if (data.credential && data.credential !== before.name) {
      return;
    }
    if (!data.connected) {
      fail(data.reason, data.sentence);
      return;
    }
    // An ACTIVE credential that was authorized again looks as before; ask once more.
    const now = await api.credential(before.id).catch(() => before);
    if (now.status === "ACTIVE") {
      connected(now);
    }
  });
  return end;
}
