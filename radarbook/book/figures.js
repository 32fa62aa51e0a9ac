// Draws each figure of the page when it comes near the window, and drops it when it is far away:
// a browser keeps about sixteen WebGL scenes alive, a chapter may hold more.
"use strict";

(function () {
  function draw(box) {
    if (box.dataset.drawn) return;
    const spec = JSON.parse(box.querySelector("script.radarbook-spec").textContent);
    const stage = document.createElement("div");
    stage.className = "radarbook-stage";
    const described = spec.layout.meta && spec.layout.meta.alt;
    if (described) {
      stage.setAttribute("role", "group");
      stage.setAttribute("aria-label", described);
    }
    box.appendChild(stage);
    box.dataset.drawn = "yes";
    // Keep the designed height; the width follows the column where that is narrower. Panels side by
    // side keep at least 200 px each: the box then scrolls.
    const layout = Object.assign({}, spec.layout);
    const designed = layout.width || 760;
    const starts = Object.keys(layout)
      .filter((name) => /^xaxis\d*$/.test(name))
      .map((name) => (layout[name].domain || [0])[0].toFixed(2));
    const columns = new Set(starts).size;
    const least = columns > 1 ? 200 * columns + 90 : 0;
    layout.width = Math.min(designed, Math.max(box.clientWidth || designed, least));
    Plotly.newPlot(stage, {
      data: spec.data,
      layout: layout,
      frames: spec.frames || [],
      config: { displaylogo: false, responsive: false, scrollZoom: false },
    }).then(function () {
      const picture = box.querySelector("img");
      if (picture) picture.style.display = "none";
    });
  }

  function drop(box) {
    const stage = box.querySelector(".radarbook-stage");
    if (!stage) return;
    const picture = box.querySelector("img");
    if (picture) picture.style.display = "";
    Plotly.purge(stage);
    stage.remove();
    delete box.dataset.drawn;
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
})();
