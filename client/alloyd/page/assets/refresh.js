// Takes a page's newest state from where it came, and changes only what differs: all that the reader has opened, chosen,
// scrolled to, pointed at or begun to mark stays so.
"use strict";

(() => {
  const { draw, tellTimes } = window.alloyd;
  const main = document.getElementById("main");
  const sources = new WeakMap();

  // What a part was made from: once it is on the page, the page itself changes it.
  const know = (part) => sources.set(part, part.outerHTML);
  const pieces = (section) => [...section.children];
  for (const section of main.children) pieces(section).forEach(know);
  document.querySelectorAll("nav, #top > *").forEach(know);

  async function refresh() {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    for (const name of ["nav", "#top h1", "#top .state", "#top .says"]) {
      const [old, next] = [document.querySelector(name), fresh.querySelector(name)];
      if (!old !== !next) return location.reload();
      if (old) renew(old, next);
    }
    arrange(main, [...fresh.querySelectorAll("main > section")], (old, next) => {
      arrange(old, pieces(next), renew, enter);
    }, (section) => {
      pieces(section).forEach(know);
      return () => pieces(section).forEach(show);
    });
  }

  // Makes the children of `place` those of `wanted`, by their ids: `both` where there is one already, else `fresh`.
  function arrange(place, wanted, both, fresh) {
    const ids = new Set(wanted.map((each) => each.id));
    for (const old of [...place.children]) if (!ids.has(old.id)) leave(old);
    wanted.forEach((next, at) => {
      const old = [...place.children].find((each) => each.id === next.id);
      if (old) both(old, next);
      const shown = old ? null : fresh(next);
      const here = [...place.children].find((each) => each.id === next.id) ?? next;
      if (place.children[at] !== here) place.insertBefore(here, place.children[at] ?? null);
      shown?.();
    });
  }

  function enter(part) {
    know(part);
    return () => show(part);
  }

  function show(part) {
    tellTimes(part);
    if (part.matches("figure")) draw(part);
  }

  function leave(part) {
    for (const plot of part.querySelectorAll(".plot")) if (window.Plotly) Plotly.purge(plot);
    part.remove();
  }

  function renew(old, next) {
    if (sources.get(old) === next.outerHTML || marked(old)) return;
    if (old.matches("figure") && next.matches("figure")) {
      sources.set(old, next.outerHTML);
      redraw(old, next);
    } else {
      know(next);
      swap(old, next);
    }
  }

  // The plot stays, so that what was zoomed stays so; what stands around it is changed piece by piece.
  function redraw(old, next) {
    old.className = next.className;
    for (const name of ["h3", "figcaption", 'script[type="application/json"]']) {
      const [one, other] = [old.querySelector(name), next.querySelector(name)];
      if (one.textContent !== other.textContent) one.textContent = other.textContent;
    }
    for (const name of [".controls", "details"]) {
      const [one, other] = [old.querySelector(`:scope > ${name}`), next.querySelector(`:scope > ${name}`)];
      if (one && other) {
        if (one.innerHTML !== other.innerHTML) swap(one, other);
      } else if (one) one.remove();
      else if (other && name === "details") old.append(other);
      else if (other) old.querySelector(".plot").before(other);
    }
    draw(old);
  }

  function swap(old, next) {
    const focus = old.contains(document.activeElement) ? path(document.activeElement, old) : null;
    keep(old, next);
    tellTimes(next);
    const before = [...old.querySelectorAll(".scroll, pre")].map((each) => [each.scrollTop, each.scrollLeft]);
    old.replaceWith(next);
    next.querySelectorAll(".scroll, pre").forEach((each, at) => {
      if (before[at]) [each.scrollTop, each.scrollLeft] = before[at];
    });
    focus?.reduce((here, at) => here?.children[at], next)?.focus({ preventScroll: true });
  }

  function keep(old, next) {
    const all = (within, name) => [...(within.matches(name) ? [within] : []), ...within.querySelectorAll(name)];
    for (const each of all(old, "details[open]")) {
      const same = all(next, "details").find((one) => one.id === each.id);
      if (same) same.open = true;
    }
    for (const each of old.querySelectorAll("[data-control]")) {
      const same = next.querySelector(`#${CSS.escape(each.id)}`);
      if (same?.type === "checkbox") same.checked = each.checked;
      else if (same) {
        // By what it is called: the options may have another order by now.
        const chosen = each.selectedOptions[0]?.textContent;
        same.selectedIndex = Math.max(0, [...same.options].findIndex((one) => one.textContent === chosen));
      }
    }
  }

  // Whether the reader has marked some of a part's text, to copy it perhaps.
  function marked(part) {
    const selection = getSelection();
    return !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  function path(element, root) {
    const found = [];
    for (let here = element; here !== root; here = here.parentElement) {
      found.unshift([...here.parentElement.children].indexOf(here));
    }
    return found;
  }

  window.alloyd.refresh = refresh;
})();
