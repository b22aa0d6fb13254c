// Hears what the server sends, as long as somebody looks: comes back after it was away, rests while the page is hidden.
"use strict";

window.alloyd = window.alloyd ?? {};
window.alloyd.listen = (address, { hear, lost }) => {
  const AGAIN = 1000;
  const SILENCE = 25000;
  let stream = null;
  let watchdog = null;

  function alive() {
    clearTimeout(watchdog);
    watchdog = setTimeout(fail, SILENCE);
  }

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource(address);
    stream.onopen = alive;
    stream.onmessage = (event) => {
      alive();
      hear(JSON.parse(event.data));
    };
    stream.addEventListener("alive", alive);
    stream.onerror = fail;
    alive();
  }

  function close() {
    clearTimeout(watchdog);
    stream?.close();
    stream = null;
  }

  async function fail() {
    close();
    try {
      const answer = await fetch("/assets/page.css", { cache: "no-store" });
      if (answer.status === 401) return location.reload();
    } catch {
      lost();
    }
    setTimeout(open, AGAIN);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
};
