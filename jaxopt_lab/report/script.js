"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const texts = JSON.parse(document.getElementById("texts").textContent); // by trial
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  // Colours by name, from the style sheet of the theme now shown.
  const mix = (a, b, t) => {
    const part = (c, i) => parseInt(c.slice(1 + 2 * i, 3 + 2 * i), 16);
    return `rgb(${[0, 1, 2].map((i) => Math.round(part(a, i) * (1 - t) + part(b, i) * t)).join(",")})`;
  };
  const palette = () => {
    const style = getComputedStyle(root);
    const get = (name) => style.getPropertyValue(`--${name}`).trim();
    const found = {};
    for (const name of ["page", "card", "ink", "soft", "line", "grid", "accent", "second", "good", "bad",
      "muted", "faint", "veil", "veilaccent", "veilgood", "cool", "hot"]) found[name] = get(name);
    for (let i = 0; i < 12; i++) found[`scale${i}`] = mix(get("scalelow"), get("scalehigh"), i / 11);
    [get("accent"), get("second"), get("good"), get("bad"), get("muted"), mix(get("accent"), get("bad"), 0.5)]
      .forEach((color, i) => { found[`fold${i}`] = color; });
    return found;
  };
  const painted = (value, colors) => {
    if (Array.isArray(value)) return value.map((v) => painted(v, colors));
    if (value && typeof value === "object") {
      if ("@" in value) return colors[value["@"]];
      if ("#" in value) return texts[value["#"]];
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, colors)]));
    }
    return value;
  };
  const layoutOf = (figure, colors, width) => {
    const axis = {
      gridcolor: colors.grid, linecolor: colors.line, zerolinecolor: colors.line, zeroline: false, automargin: true,
      tickfont: { color: colors.soft, size: 12 }, title: { font: { color: colors.soft, size: 13 }, standoff: 10 },
    };
    const own = painted(figure.layout, colors), narrow = width < 420;
    const shown = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    const height = figure.height + (narrow && own.showlegend !== false && shown > 3 ? 18 * (shown - 2) : 0);
    for (const side of ["xaxis", "yaxis"]) {
      const title = own[side] && own[side].title;
      if (narrow && title && title.text) title.text = title.text.replace(" (", "<br>(");
    }
    const merged = (base, extra) => {
      const out = { ...base };
      for (const [k, v] of Object.entries(extra || {})) {
        out[k] = v && typeof v === "object" && !Array.isArray(v) && out[k] ? merged(out[k], v) : v;
      }
      return out;
    };
    return merged({
      autosize: true, height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: colors.ink, size: 13 },
      margin: { l: narrow ? 48 : 60, r: 14, t: 12, b: 48 }, hovermode: "closest", xaxis: axis, yaxis: axis,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: colors.soft, size: 12 } },
      hoverlabel: { bgcolor: colors.card, bordercolor: colors.line, font: { color: colors.ink, size: 12 }, align: "left" },
    }, own);
  };
  const config = { displaylogo: false, displayModeBar: "hover",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

  const draw = (name) => {
    const element = document.getElementById(`plot-${name}`);
    const colors = palette(), figure = figures[name];
    const touch = matchMedia("(hover: none)").matches;
    return Plotly.react(element, painted(figure.data, colors), layoutOf(figure, colors, element.clientWidth),
      { ...config, displayModeBar: touch ? false : "hover" });
  };
  // One chart per frame, so that the page answers while it draws.
  const names = Object.keys(figures);
  let run = 0;
  const drawAll = async () => {
    const mine = ++run;
    for (const name of names) {
      if (mine !== run) return;
      await draw(name);
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.drawn = String(names.length);
  };

  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (system.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("jaxopt-lab-theme", root.dataset.theme); } catch (e) { /* storage is off */ }
    drawAll();
  });
  system.addEventListener("change", drawAll);
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch (e) {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const full = target._fullLayout;
      if (full && Math.abs(full.width - target.clientWidth) > 1) Plotly.Plots.resize(target);
    }
  });
  for (const name of names) resized.observe(document.getElementById(`plot-${name}`));
  drawAll();
})();
