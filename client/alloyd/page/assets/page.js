// Draws the figures in the theme's colours, lets marks be chosen, and keeps a live page fresh.
"use strict";

(() => {
  const root = document.documentElement;
  const THEMES = ["auto", "light", "dark"];
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const coarse = matchMedia("(pointer: coarse)").matches;

  const kept = {
    get theme() {
      try { return localStorage.getItem("alloyd-theme"); } catch { return null; }
    },
    set theme(name) {
      try { localStorage.setItem("alloyd-theme", name); } catch { /* a page from a file may keep nothing */ }
    },
  };

  // Colours stand in a plot by their role, as var(--name); plotly wants what they are now.
  function coloured(value, style) {
    if (typeof value === "string") {
      return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, style)]));
    }
    return value;
  }

  // Small cells stand without gaps. On a narrow page a legend takes a line for each name, names are shorter, and cells
  // have no room for words.
  function fit(frame, data, width) {
    for (const trace of data) {
      if (trace.type === "heatmap" && width / trace.z[0].length < 12) trace.xgap = 0;
    }
    if (width >= 560) return;
    if (frame.showlegend) {
      frame.height += 19 * data.filter((each) => each.name && each.showlegend !== false).length;
    }
    if (frame.yaxis?.ticktext) frame.yaxis.ticktext = frame.yaxis.ticktext.map(shorter);
    for (const trace of data) {
      if (trace.mode === "text") trace.visible = false;
      if (trace.type === "heatmap") trace.showscale = false;
    }
  }

  // What is written as an entity, such as &lt;, is one letter.
  const letters = (name) => name.match(/&#?\w+;|./gsu) ?? [];

  function shorter(name) {
    const all = letters(name);
    return all.length > 22 ? [...all.slice(0, 8), "…", ...all.slice(-12)].join("") : name;
  }

  // The title below a plot in as many lines as it takes: plotly would write beyond the edge.
  function wrapTitle(frame, width) {
    const title = frame.xaxis?.title;
    if (!title?.text) return;
    const LETTER = 6.4;
    const LINE = 16;
    const names = frame.yaxis?.ticktext ?? ["100,000"];
    const most = (width - LETTER * (4 + Math.max(...names.map((each) => letters(each).length)))) / LETTER;
    const lines = [];
    for (const word of title.text.split(" ")) {
      const last = lines.length - 1;
      if (last >= 0 && lines[last].length + 1 + word.length <= most) lines[last] += ` ${word}`;
      else lines.push(word);
    }
    title.text = lines.join("<br>");
    frame.height += LINE * (lines.length - 1);
  }

  function draw(figure) {
    const place = figure.querySelector(".plot");
    const { plot, controls } = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const { data, layout: frame } = structuredClone(plot);
    for (const [number, control] of controls.entries()) {
      const input = figure.querySelector(`[data-control="${number}"]`);
      if (control.traces) for (const trace of control.traces) data[trace].visible = input.checked;
      else {
        const chosen = control.options[Number(input.value)] ?? control.options[0];
        Object.assign(data[control.trace], chosen.trace);
        Object.assign(frame, chosen.layout);
      }
    }
    const style = getComputedStyle(root);
    fit(frame, data, place.clientWidth);
    wrapTitle(frame, place.clientWidth);
    place.style.height = `${frame.height}px`;
    frame.dragmode = coarse ? false : "zoom";
    frame.uirevision = `${figure.id} ${controls.map((_, number) => figure.querySelector(`[data-control="${number}"]`).value)}`;
    const layout = coloured(frame, style);
    if (!window.Plotly) return;
    Plotly.react(place, coloured(data, style), layout, config).then(() => { place.dataset.drawn = "yes"; });
    if (place.dataset.heard) return;
    place.dataset.heard = "yes";
    const choice = controls.findIndex((each) => each.options);
    if (choice < 0) return;
    const input = figure.querySelector(`[data-control="${choice}"]`);
    place.on("plotly_hover", ({ points }) => {
      const chosen = points[0]?.customdata;
      if (chosen === undefined || chosen === null || String(chosen) === input.value) return;
      input.value = String(chosen);
      draw(figure);
    });
  }

  function drawAll(within = document) {
    for (const figure of within.querySelectorAll("figure")) draw(figure);
  }

  function tellTimes(within = document) {
    const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
    for (const time of within.querySelectorAll("time[datetime]")) {
      time.title ||= time.textContent;
      time.textContent = form.format(new Date(time.dateTime));
    }
  }

  function setTheme(name) {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    for (const button of document.querySelectorAll('[data-do="theme"]')) button.textContent = `theme: ${name}`;
  }

  async function copy(button) {
    const text = document.getElementById(button.dataset.of);
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }

  // Takes the page's newest state from where it came, and changes only the parts that differ.
  async function refresh() {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return false;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const name of ["#top", "nav"]) {
      const [old, next] = [document.querySelector(name), fresh.querySelector(name)];
      if (old && next) old.replaceWith(next);
    }
    setTheme(root.dataset.theme ?? "auto");
    document.title = fresh.title;
    const main = document.getElementById("main");
    const blocks = [...fresh.querySelectorAll("main > section")];
    for (const section of [...main.children]) {
      if (!blocks.some((each) => each.id === section.id)) section.remove();
    }
    blocks.forEach((next, place) => {
      const old = document.getElementById(next.id);
      const source = next.outerHTML;
      if (old && old.dataset.source === String(hash(source))) return;
      next.dataset.source = String(hash(source));
      if (old) {
        keep(old, next);
        old.replaceWith(next);
      } else main.insertBefore(next, main.children[place] ?? null);
      tellTimes(next);
      drawAll(next);
    });
    return true;
  }

  // What the reader has opened, chosen and begun to read stays so.
  function keep(old, next) {
    for (const each of old.querySelectorAll("details[id][open]")) {
      const same = next.querySelector(`#${CSS.escape(each.id)}`);
      if (same) same.open = true;
    }
    for (const each of old.querySelectorAll("[data-control]")) {
      const same = next.querySelector(`#${CSS.escape(each.id)}`);
      if (same?.type === "checkbox") same.checked = each.checked;
      else if (same && same.options.length > Number(each.value)) same.value = each.value;
    }
  }

  function hash(text) {
    let found = 0;
    for (let place = 0; place < text.length; place++) found = (Math.imul(found, 31) + text.charCodeAt(place)) | 0;
    return found;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button?.dataset.do === "theme") {
      const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
      kept.theme = next;
      setTheme(next);
      drawAll();
    } else if (button?.dataset.do === "copy") copy(button);
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest("[data-control]")) draw(event.target.closest("figure"));
  });
  // Another width is another layout: what is written where, and how high a plot is.
  let width = innerWidth;
  let settling = null;
  addEventListener("resize", () => {
    clearTimeout(settling);
    settling = setTimeout(() => {
      if (innerWidth !== width) drawAll();
      width = innerWidth;
    }, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  // Paper is light.
  let before = "auto";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme ?? "auto";
    setTheme("light");
    drawAll();
  });
  addEventListener("afterprint", () => {
    setTheme(before);
    drawAll();
  });

  setTheme(THEMES.includes(kept.theme) ? kept.theme : "auto");
  for (const section of document.querySelectorAll("main > section")) {
    section.dataset.source = String(hash(section.outerHTML));
  }
  tellTimes();
  drawAll();
  window.alloyd = { refresh };
})();
