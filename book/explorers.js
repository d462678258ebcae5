// Draws each explorer in the place of its picture, once it comes near the window.
(() => {
  const vega = new URL("vega.js", document.currentScript.src);
  const TWO_PANELS = 640; // pixels that two panels side by side need
  let loading;

  function load() {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = vega;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
    return loading;
  }

  // The rows of text that the chart shows, and the name of the data set that they are in.
  function status(view) {
    const sets = view.getState({ data: () => true, signals: () => false }).data;
    for (const name of Object.keys(sets)) {
      const row = view.data(name)[0];
      if (row && Array.isArray(row.status)) return { name, row };
    }
    return null;
  }

  async function draw(explorer) {
    const part = (name) => explorer.querySelector(`.explorer-${name}`);
    const spec = JSON.parse(explorer.querySelector("script").textContent);
    const kept = explorer.view?.getState({ data: () => false }).signals ?? {};
    const columns = explorer.clientWidth >= TWO_PANELS ? 2 : 1;
    explorer.view?.finalize();
    part("controls").replaceChildren();
    for (const param of spec.params) {
      if (param.bind && param.name in kept) param.value = kept[param.name];
    }
    const embedded = await window.vegaEmbed(
      part("chart"),
      { ...spec, columns },
      { actions: false, bind: part("controls"), renderer: "svg" },
    );
    explorer.view = embedded.view;
    explorer.columns = columns;
    const tell = () => {
      part("status").textContent = status(embedded.view)?.row.status.join("; ");
    };
    embedded.view.addDataListener(status(embedded.view).name, tell);
    tell();
    explorer.dataset.ready = "";
  }

  async function start(explorer) {
    const figure = picture(explorer);
    try {
      await load();
      explorer.hidden = false;
      await draw(explorer);
      figure?.classList.add("explorer-drawn");
    } catch (error) {
      explorer.hidden = true; // the picture stays
      console.error(error);
      return;
    }
    const again = new ResizeObserver(() => {
      const columns = explorer.clientWidth >= TWO_PANELS ? 2 : 1;
      if (columns !== explorer.columns) {
        explorer.columns = columns;
        draw(explorer);
      }
    });
    again.observe(explorer);
  }

  // The figure in the cell in front; the explorer moves into it, above the caption.
  function picture(explorer) {
    const figure = explorer.previousElementSibling?.querySelector("figure");
    figure?.querySelector("figcaption")?.before(explorer);
    return figure;
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        start(target.explorer);
      }
    },
    { rootMargin: "600px" },
  );
  for (const explorer of document.querySelectorAll(".explorer")) {
    const cell = explorer.previousElementSibling ?? explorer.parentElement;
    cell.explorer = explorer;
    near.observe(cell); // the explorer itself is hidden and has no place
  }
})();
