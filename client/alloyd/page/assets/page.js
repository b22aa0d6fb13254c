// Draws the figures in the theme's colours, lets marks be chosen, and is ready for paper.
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
    const paper = before !== null;
    const width = paper ? PAPER : place.clientWidth;
    fit(frame, data, width);
    wrapTitle(frame, width);
    // Without a width plotly takes that of its place.
    if (paper) frame.width = PAPER;
    place.style.height = `${frame.height}px`;
    frame.dragmode = coarse ? false : "zoom";
    // What was zoomed stays so, until something else is chosen.
    const chosen = [...figure.querySelectorAll("select[data-control]")].map((each) => each.selectedOptions[0]?.textContent);
    frame.uirevision = `${figure.id} ${chosen}`;
    const layout = coloured(frame, style);
    if (!window.Plotly) return;
    Plotly.react(place, coloured(data, style), layout, config).then(() => { place.dataset.drawn = "yes"; });
    if (place.dataset.heard) return;
    place.dataset.heard = "yes";
    place.on("plotly_hover", ({ points }) => {
      const input = figure.querySelector("select[data-control]");
      const chosen = points[0]?.customdata;
      if (!input || chosen === undefined || chosen === null || String(chosen) === input.value) return;
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
  // Paper is light and has no folds; pictures have its width, for nothing asks for them anew while it is printed.
  const PAPER = 660;
  let before = null;
  const printing = matchMedia("print");
  function print(on) {
    if (on === (before !== null)) return;
    if (on) {
      before = { theme: root.dataset.theme ?? "auto", folded: document.querySelectorAll("details:not([open])") };
      setTheme("light");
    } else setTheme(before.theme);
    for (const each of before.folded) each.open = on;
    if (!on) before = null;
    drawAll();
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  printing.addEventListener("change", () => print(printing.matches));

  setTheme(THEMES.includes(kept.theme) ? kept.theme : "auto");
  window.alloyd = { draw, tellTimes };
  // The rest of the page's scripts look at it first.
  document.addEventListener("DOMContentLoaded", () => {
    tellTimes();
    drawAll();
  });
})();
