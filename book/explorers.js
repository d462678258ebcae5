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

  // The row behind the mark that an event hit.
  function hit(event) {
    const item = [event.target.__data__].flat()[0];
    return item?.datum;
  }

  // A click on a mark whose row has these fields sets the parameters to them.
  function choose(svg, view, fields) {
    svg.addEventListener("click", (event) => {
      const row = hit(event);
      if (!row || !Object.values(fields).every((field) => field in row)) return;
      for (const [param, field] of Object.entries(fields)) view.signal(param, row[field]);
      view.runAsync();
    });
  }

  // Marks of one view can be dragged up and down; each sets the parameter that its row names.
  function drag(svg, view, { marks, param, scale, params }) {
    svg.addEventListener("pointerdown", (event) => {
      const row = event.target.closest(`.${marks}_marks`) && hit(event);
      if (!row) return;
      event.preventDefault();
      const { name, bind } = params.find(({ name }) => name === row[param]);
      const axis = view.scale(scale);
      const shown = svg.getBoundingClientRect().height / svg.viewBox.baseVal.height;
      const begin = axis(view.signal(name));
      const move = ({ clientY }) => {
        const value = axis.invert(begin + (clientY - event.clientY) / shown);
        const steps = Math.round((value - bind.min) / bind.step);
        const kept = Math.min(bind.max, Math.max(bind.min, bind.min + steps * bind.step));
        view.signal(name, Number(kept.toFixed(6)));
        view.runAsync();
      };
      const end = () => {
        window.removeEventListener("pointermove", move);
        for (const type of ["pointerup", "pointercancel"]) window.removeEventListener(type, end);
      };
      window.addEventListener("pointermove", move);
      for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, end);
    });
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
    const svg = part("chart").querySelector("svg");
    const { choose: fields, drag: dragged } = spec.usermeta ?? {};
    if (fields) choose(svg, embedded.view, fields);
    if (dragged) drag(svg, embedded.view, { ...dragged, params: spec.params });
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
