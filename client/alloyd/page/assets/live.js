// Keeps the page of one job fresh: hears from the server that something happened, and takes the page's new parts.
"use strict";

(() => {
  const SOON = 700;
  const LATER = 5000;
  const job = location.pathname.split("/")[2];
  let seen = null;
  let due = null;
  let wanted = Infinity;
  let refreshing = false;

  const lost = document.createElement("p");
  lost.className = "words error lost";
  lost.setAttribute("role", "status");
  lost.hidden = true;
  document.getElementById("main").before(lost);

  function say(text) {
    if (lost.textContent !== text) lost.textContent = text;
    lost.hidden = !text;
  }

  function ask(wait) {
    const when = Date.now() + wait;
    if (when >= wanted) return;
    wanted = when;
    clearTimeout(due);
    due = setTimeout(async () => {
      wanted = Infinity;
      if (refreshing) return ask(SOON);
      refreshing = true;
      try {
        await window.alloyd.refresh();
      } catch { /* the server is away; the stream says so */ }
      refreshing = false;
    }, wait);
  }

  window.alloyd.listen(`/events?job=${encodeURIComponent(job)}`, {
    hear(news) {
      say(news.away ? `The daemon is away, and this page waits for it: ${news.away}` : "");
      const now = JSON.stringify([news.away, news.seen, news.row?.state]);
      // The page may be older than the first news: it took a while to load.
      const shown = document.querySelector("#top .state")?.dataset.state;
      const older = news.row && news.row.state !== shown;
      if (!news.away && (seen === null ? older : now !== seen)) ask(SOON);
      else if (news.row?.state === "running") ask(LATER);
      seen = now;
    },
    lost() {
      say("The page's server (alloy ui) does not answer; what stands here is of before. Trying again.");
      seen = "";
    },
  });
})();
