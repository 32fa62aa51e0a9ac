// Draws each figure of the page when it comes near the window, and drops it when it is far away:
// a browser keeps about sixteen WebGL scenes alive, a chapter may hold more. A figure is laid out
// for the width of its column and for the page's theme, and again when either changes.
"use strict";

(function () {
  // Pixels: a panel is readable from this width on; narrower ones stand one below the other.
  const LEAST_PANEL = 200;
  const LEAST_FACE = 105;
  const NARROW = 560;
  // Between stacked panels: the tick labels and title of one, and the heading of the next.
  const GAP = 92;

  // -- width ---------------------------------------------------------------------------------

  function sizes(layout) {
    const base = (layout.template && layout.template.layout) || {};
    return {
      width: layout.width || base.width || 760,
      height: layout.height || base.height || 420,
      margin: Object.assign({ l: 80, r: 80, t: 100, b: 80 }, base.margin, layout.margin),
    };
  }

  const same = (a, b) => Math.abs(a - b) < 1e-6;
  const middle = (domain) => (domain[0] + domain[1]) / 2;

  // Panels side by side that would be too narrow become one column, read row by row.
  function stack(spec, width) {
    const layout = spec.layout;
    const { height, margin } = sizes(layout);
    const panels = Object.keys(layout)
      .filter((name) => /^xaxis\d*$/.test(name) && layout[name].domain)
      .map((name) => ({ name: "x" + name.slice(5), x: layout[name] }))
      .map((one) => {
        const y = layout["yaxis" + (one.x.anchor || "y").slice(1)];
        return Object.assign(one, { y: y, was: { x: one.x.domain, y: y.domain || [0, 1] } });
      });
    const columns = new Set(panels.map((one) => one.was.x[0].toFixed(3))).size;
    const side = { l: Math.min(margin.l, 52), r: Math.min(margin.r, 78) };
    if (columns < 2 || (width - margin.l - margin.r) / columns >= LEAST_PANEL) return;
    panels.sort((a, b) => b.was.y[0] - a.was.y[0] || a.was.x[0] - b.was.x[0]);
    const before = height - margin.t - margin.b;
    const tall = (one) =>
      Math.min(before * (one.was.y[1] - one.was.y[0]), 1.25 * (width - side.l - side.r));
    const after = panels.reduce((sum, one) => sum + tall(one) + GAP, -GAP);
    let top = 1;
    panels.forEach(function (one) {
      one.now = [Math.max(0, top - tall(one) / after), top];
      one.x.domain = [0, 1];
      one.y.domain = one.now;
      if (!(one.y.title && one.y.title.text)) one.y.title = panels[0].y.title;
      top -= (tall(one) + GAP) / after;
    });
    (layout.annotations || []).forEach(function (note) {
      const own = panels.find(
        (one) => same(middle(one.was.x), note.x) && same(one.was.y[1], note.y)
      );
      if (own) Object.assign(note, { x: 0.5, y: own.now[1] });
    });
    spec.data.forEach(function (trace) {
      const own = panels.find((one) => one.name === (trace.xaxis || "x"));
      if (!own || !trace.colorbar || trace.colorbar.y === undefined) return;
      Object.assign(trace.colorbar, { x: 1.02, y: middle(own.now), len: own.now[1] - own.now[0] });
    });
    if (layout.legend && layout.legend.y < 0) layout.legend.y *= before / after;
    layout.margin = Object.assign({}, margin, side);
    layout.height = after + margin.t + margin.b;
  }

  // Single-precision numbers as plotly writes them.
  function numbers(array) {
    if (!array.bdata) return Float32Array.from(array);
    const bytes = Uint8Array.from(atob(array.bdata), (letter) => letter.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  // A sheet of faces in one scene: fewer to a row, each moved by whole steps of the sheet.
  function rearrange(spec, width) {
    const layout = spec.layout;
    const sheet = layout.meta && layout.meta.sheet;
    if (!sheet) return;
    const { width: designed, margin } = sizes(layout);
    if (width >= designed) return;
    const room = width - margin.l - margin.r;
    const most = Math.max(1, Math.floor(room / LEAST_FACE));
    // As equal rows as possible: seven faces are 3 + 3 + 1, or 4 + 3.
    const fewer = Math.ceil(sheet.count / Math.ceil(sheet.count / most));
    const columns = sheet.columns <= most ? sheet.columns : fewer;
    const rows = Math.ceil(sheet.count / columns);
    // Labels keep their size in pixels: the fewer mm a pixel has, the less room they need.
    const stepY = sheet.tall + (sheet.below * columns * sheet.step[0]) / room;
    const shift = (n) => [
      ((n % columns) - (n % sheet.columns)) * sheet.step[0],
      Math.floor(n / sheet.columns) * sheet.step[1] - Math.floor(n / columns) * stepY,
    ];
    spec.data.forEach(function (trace, n) {
      const x = numbers(trace.x);
      const y = numbers(trace.y);
      const own = trace.type === "mesh3d" ? shift(n) : null;
      trace.x = x.map((value, k) => value + (own || shift(k))[0]);
      trace.y = y.map((value, k) => value + (own || shift(k))[1]);
      if (!own) trace.textfont = Object.assign({}, trace.textfont, { size: 11 });
    });
    const each = (room / columns) * (stepY / sheet.step[0]);
    layout.height = Math.round(rows * each + margin.t + margin.b);
    const extent = [columns * sheet.step[0], rows * stepY, sheet.step[2]];
    layout.scene.xaxis.range = [-sheet.step[0] / 2, (columns - 0.5) * sheet.step[0]];
    layout.scene.yaxis.range = [sheet.tall / 2 - rows * stepY, sheet.tall / 2];
    const panel = room / (rows * each);
    const ratio = sheet.height * Math.min(1 / extent[1], panel / extent[0]);
    layout.scene.aspectratio = { x: extent[0] * ratio, y: extent[1] * ratio, z: extent[2] * ratio };
  }

  // A legend next to the curves leaves them no room: above them instead.
  function raise(spec, width) {
    const layout = spec.layout;
    if (width >= NARROW) return;
    const { height, margin } = sizes(layout);
    layout.margin = Object.assign({}, margin, { l: Math.min(margin.l, 52), r: Math.min(margin.r, 78) });
    if (layout.showlegend === false || (layout.legend && layout.legend.orientation === "h")) return;
    const named = spec.data.filter((t) => t.name && t.showlegend !== false && !/3d$/.test(t.type));
    if (named.length < 2 && !layout.showlegend) return;
    const place = { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" };
    layout.legend = Object.assign({}, layout.legend, place);
    layout.margin.r = 12;
    // A line for each name, below the title if there is one.
    const lines = 20 * named.length;
    const title = layout.title && (layout.title.text || layout.title) ? 44 : 12;
    layout.margin.t = title + lines;
    if (layout.title && layout.title.text) {
      layout.title = Object.assign({}, layout.title, { y: 1, yref: "container", yanchor: "top", pad: { t: 12 } });
    }
    layout.height = height - Math.min(margin.t, height) + layout.margin.t;
  }

  // -- theme ---------------------------------------------------------------------------------

  const dark = () => document.documentElement.dataset.theme === "dark";

  // In a dark theme paper, text, axes and whatever is black change; colour scales do not.
  function darken(spec) {
    const page = getComputedStyle(document.documentElement);
    const paper = page.getPropertyValue("--pst-color-background").trim() || "#14181e";
    const ink = page.getPropertyValue("--pst-color-text-base").trim() || "#ced6dd";
    const faint = "#3b4046";
    const layout = spec.layout;
    const base = (layout.template = layout.template || {}).layout || {};
    const axis = { gridcolor: "#303841", linecolor: "#9ca4af", tickcolor: "#9ca4af" };
    const axis3d = { backgroundcolor: paper, gridcolor: "#404a55", zerolinecolor: faint };
    layout.template.layout = Object.assign({}, base, {
      paper_bgcolor: paper,
      plot_bgcolor: paper,
      font: Object.assign({}, base.font, { color: ink }),
      colorway: (base.colorway || []).map((colour) => (colour === "#000000" ? ink : colour)),
      legend: Object.assign({}, base.legend, { bgcolor: "rgba(0,0,0,0)" }),
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "#9ca4af", activecolor: ink },
      sliderdefaults: { bgcolor: faint, bordercolor: "#9ca4af", tickcolor: "#9ca4af" },
      xaxis: Object.assign({}, base.xaxis, axis),
      yaxis: Object.assign({}, base.yaxis, axis),
      scene: {
        xaxis: Object.assign({}, (base.scene || {}).xaxis, axis3d),
        yaxis: Object.assign({}, (base.scene || {}).yaxis, axis3d),
        zaxis: Object.assign({}, (base.scene || {}).zaxis, axis3d),
      },
    });
    // Behind the pixels of a radar image: not the paper, and not the black of its faintest pixel.
    if (layout.plot_bgcolor) layout.plot_bgcolor = faint;
    spec.data.forEach(function (trace) {
      ["line", "marker", "textfont"].forEach(function (part) {
        if (trace[part] && trace[part].color === "#000000") trace[part].color = ink;
      });
    });
  }

  // -- drawing -------------------------------------------------------------------------------

  function draw(box) {
    if (box.dataset.state) return;
    const spec = JSON.parse(box.querySelector("script.radarbook-spec").textContent);
    const stage = document.createElement("div");
    stage.className = "radarbook-stage";
    const described = spec.layout.meta && spec.layout.meta.alt;
    if (described) {
      stage.setAttribute("role", "group");
      stage.setAttribute("aria-label", described);
    }
    box.appendChild(stage);
    box.dataset.state = "drawing";
    const designed = sizes(spec.layout).width;
    const width = Math.min(designed, box.clientWidth || designed);
    raise(spec, width);
    stack(spec, width);
    rearrange(spec, width);
    if (dark()) darken(spec);
    spec.layout.width = width;
    box.dataset.width = box.clientWidth;
    Plotly.newPlot(stage, {
      data: spec.data,
      layout: spec.layout,
      frames: spec.frames || [],
      config: {
        displaylogo: false,
        responsive: false,
        scrollZoom: false,
        // On a phone the buttons would lie over legend and headings.
        displayModeBar: width < NARROW ? false : "hover",
      },
    }).then(function () {
      if (!stage.isConnected) return;
      const picture = box.querySelector("img");
      if (picture) picture.style.display = "none";
      box.style.minHeight = "";
      box.dataset.state = "drawn";
    });
  }

  function drop(box) {
    const stage = box.querySelector(".radarbook-stage");
    if (!stage) return;
    // The picture may be less high: the text below must not move while the reader scrolls.
    box.style.minHeight = stage.offsetHeight + "px";
    const picture = box.querySelector("img");
    if (picture) picture.style.display = "";
    Plotly.purge(stage);
    stage.remove();
    delete box.dataset.state;
  }

  function again(which) {
    boxes.forEach(function (box) {
      if (!box.dataset.state || !which(box)) return;
      drop(box);
      box.style.minHeight = "";
      draw(box);
    });
  }

  const boxes = document.querySelectorAll(".radarbook-figure");
  if (!("IntersectionObserver" in window)) {
    boxes.forEach(draw);
    return;
  }
  const near = new IntersectionObserver(
    function (entries) {
      entries.forEach(function (entry) {
        if (entry.isIntersecting) draw(entry.target);
        else drop(entry.target);
      });
    },
    { rootMargin: "600px 0px" }
  );
  boxes.forEach(function (box) {
    near.observe(box);
  });
  let waiting = 0;
  window.addEventListener("resize", function () {
    clearTimeout(waiting);
    waiting = setTimeout(() => again((box) => Number(box.dataset.width) !== box.clientWidth), 200);
  });
  let theme = dark();
  new MutationObserver(function () {
    if (theme === dark()) return;
    theme = dark();
    again(() => true);
  }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  // Paper takes the pictures, which load late otherwise.
  window.addEventListener("beforeprint", function () {
    boxes.forEach(function (box) {
      const picture = box.querySelector("img");
      if (picture) picture.loading = "eager";
    });
  });
})();
