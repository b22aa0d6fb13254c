// Keeps the page of one job fresh: says at once how far the job is, and takes the page's new parts when something happened.
"use strict";

(() => {
  const SOON = 700;
  const LATER = 5000;
  const SHARE = 20; // of the time, at most one part in so many is spent on taking the page anew
  const job = location.pathname.split("/")[2];
  const top = document.getElementById("top");
  let seen = null;
  let state = null;
  let due = null;
  let wanted = Infinity;
  let refreshing = false;
  let took = 0;

  function line(className) {
    const made = document.createElement("p");
    made.className = className;
    made.setAttribute("role", "status");
    return made;
  }

  const lost = line("words error lost");
  lost.hidden = true;
  document.getElementById("main").before(lost);
  const said = line("unseen");
  top.after(said);
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", `progress of ${job}`);
  bar.max = 1;
  bar.hidden = true;
  top.append(bar);

  function say(place, text) {
    if (place.textContent !== text) place.textContent = text;
  }

  function away(text) {
    say(lost, text);
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
      const begun = performance.now();
      try {
        await window.alloyd.refresh();
      } catch { /* the server is away; the stream says so */ }
      took = performance.now() - begun;
      refreshing = false;
    }, wait);
  }

  function show(row) {
    bar.hidden = row?.state !== "running" || row.share === null;
    if (!bar.hidden) bar.value = row.share;
    if (row?.state === "running") say(top.querySelector(".says"), row.says);
    if (state && row && row.state !== state) say(said, `${job} is ${row.state}`);
    state = row?.state ?? state;
  }

  window.alloyd.listen(`/events?job=${encodeURIComponent(job)}`, {
    hear(news) {
      away(news.away ? `The daemon is away, and this page waits for it: ${news.away}` : "");
      if (news.away) bar.hidden = true;
      else show(news.row);
      const now = JSON.stringify([news.away, news.seen, news.row?.state]);
      // The page may be older than the first news: it took a while to load.
      const shown = document.querySelector("#top .state")?.dataset.state;
      const older = news.row && news.row.state !== shown;
      if (!news.away && (seen === null ? older : now !== seen)) ask(SOON);
      else if (news.row?.state === "running") ask(Math.max(LATER, SHARE * took));
      seen = now;
    },
    lost() {
      away("The page's server (alloy ui) does not answer; what stands here is of before. Trying again.");
      seen = "";
    },
  });
  // What happened while nobody looked is wanted at once.
  document.addEventListener("visibilitychange", () => { seen &&= document.hidden ? "hidden" : seen; });
})();
