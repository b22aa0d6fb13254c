// Shows the queue as it changes. Every name is put on the page as text.
"use strict";

(() => {
  const { order } = JSON.parse(document.getElementById("page-data").textContent);
  const lost = document.getElementById("lost");
  const said = document.getElementById("said");
  const more = document.getElementById("more");
  const kept = new Map();
  const WORDS = {
    pause: "Stop at the next block and keep what is staged",
    resume: "Go on",
    cancel: "End it and remove what it staged",
    retry: "Try again from the start of its count",
  };
  let begun = false;

  function element(name, className, text = "") {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function write(place, text) {
    if (place.textContent !== text) place.textContent = text;
    place.hidden = !text;
  }

  // A job's row: made once and changed in place, so that what has the focus keeps it.
  function rowOf(name) {
    const row = element("li", "job");
    const link = element("a", "name", name);
    link.href = `/jobs/${encodeURIComponent(name)}`;
    const parts = {
      row,
      link,
      state: element("span", "state"),
      figures: element("span", "figures"),
      orders: element("span", "orders"),
      bar: document.createElement("progress"),
      what: element("p", "what"),
      why: element("p", "why"),
      wrong: element("p", "wrong"),
    };
    parts.bar.setAttribute("aria-label", `progress of ${name}`);
    parts.bar.max = 1;
    parts.wrong.setAttribute("role", "alert");
    parts.wrong.hidden = true;
    const top = element("div", "line");
    top.append(link, parts.state, parts.figures, parts.orders);
    row.append(top, parts.bar, parts.what, parts.why, parts.wrong);
    return parts;
  }

  function show(name, parts, now) {
    parts.row.dataset.state = now.state;
    parts.state.dataset.state = now.state;
    write(parts.state, now.state);
    parts.bar.hidden = now.group !== "running" || now.share === null;
    if (now.share !== null) parts.bar.value = now.share;
    const when = now.ended ? new Date(now.ended).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "";
    const rank = now.group === "waiting" && now.priority ? `priority ${now.priority}` : "";
    write(parts.figures, [now.figures, when, now.took, rank].filter(Boolean).join(" · "));
    parts.what.classList.toggle("bad", now.state === "failed");
    write(parts.what, now.what);
    write(parts.why, [now.why, now.doing].filter(Boolean).join(" · "));
    showOrders(name, parts, now.orders);
  }

  function showOrders(name, parts, wanted) {
    const there = [...parts.orders.children];
    if (there.map((each) => each.dataset.order).join() === wanted.join()) return;
    const focused = there.includes(document.activeElement);
    parts.orders.replaceChildren(...wanted.map((verb) => {
      const button = element("button", "", verb);
      button.type = "button";
      button.dataset.order = verb;
      button.title = WORDS[verb];
      button.setAttribute("aria-label", `${verb} ${name}`);
      return button;
    }));
    if (focused) (parts.orders.firstElementChild ?? parts.link).focus();
  }

  // Puts rows into their groups in the order of the queue; a row that is in its place is not touched.
  function arrange(names) {
    const lists = new Map([...document.querySelectorAll("main > section")].map((each) => [each, []]));
    for (const name of names) lists.get(document.getElementById(kept.get(name).group)).push(kept.get(name).row);
    const focused = document.activeElement;
    for (const [section, wanted] of lists) {
      const list = section.querySelector("ul");
      wanted.forEach((row, place) => {
        if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
      });
      while (list.children.length > wanted.length) list.lastElementChild.remove();
      section.querySelector(".count").textContent = wanted.length || "";
      section.querySelector(".empty").hidden = wanted.length > 0;
    }
    if (focused !== document.activeElement && focused.isConnected) focused.focus();
  }

  function hear(news) {
    for (const [name, now] of Object.entries(news.rows)) {
      const parts = kept.get(name) ?? rowOf(name);
      if (begun && parts.group && parts.row.dataset.state !== now.state) write(said, `${name} is ${now.state}`);
      parts.group = now.group;
      kept.set(name, parts);
      show(name, parts, now);
    }
    const names = new Set(news.order);
    for (const name of [...kept.keys()]) if (!names.has(name)) kept.delete(name);
    arrange(news.order);
    begun = true;
    write(lost, news.away ? `The daemon is away; this page shows how it was, and waits for it: ${news.away}` : "");
    write(more, news.more ? `and ${news.more} more that wait` : "");
    const top = document.querySelector("#top .says");
    write(top, [news.says, news.home].filter(Boolean).join(" · "));
    document.body.dataset.daemon = news.state;
    document.title = news.away ? "alloyd: away" : `alloyd: ${news.says}`;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-order]");
    if (!button || button.ariaDisabled) return;
    const name = button.closest("li").querySelector(".name").textContent;
    const verb = button.dataset.order;
    if (verb === "cancel" && !confirm(`End ${name} and remove what it staged?`)) return;
    // Not disabled, for then it would lose the focus.
    button.ariaDisabled = "true";
    const wrong = kept.get(name)?.wrong;
    try {
      const address = `/jobs/${encodeURIComponent(name)}/${verb}`;
      const answer = await fetch(address, { method: "POST", headers: { "alloyd-order": order } });
      write(wrong, answer.ok ? "" : await answer.text());
    } catch {
      write(wrong, "The page's server does not answer.");
    }
    button.ariaDisabled = null;
  });

  window.alloyd.listen("/events", {
    hear,
    lost() {
      write(lost, "The page's server (alloy ui) does not answer; what stands here is of before. Trying again.");
      document.body.dataset.daemon = "lost";
    },
  });
})();
