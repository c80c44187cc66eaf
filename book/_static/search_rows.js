/* A field above a heat map keeps the rows whose names hold every word that is typed. */
document.addEventListener("DOMContentLoaded", () => {
  for (const field of document.querySelectorAll("input.search-rows")) {
    const box = field.closest(".interactive");
    const plot = box.querySelector(".plotly-graph-div");
    const { y, z, customdata } = plot.data[0];
    const [low, high] = plot.layout.yaxis.range;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...y.keys()].filter((k) => words.every((word) => y[k].toLowerCase().includes(word)));
      const chosen = (values) => [rows.map((k) => values[k])];
      const top = rows.length - 0.5;
      Plotly.update(
        plot,
        { y: chosen(y), z: chosen(z), customdata: chosen(customdata) },
        { "yaxis.range": [Math.max(-0.5, top - (high - low)), top] },
      );
      box.querySelector("output").textContent = words.length ? `${rows.length} of ${y.length}` : "";
    });
  }
});
