document.addEventListener("DOMContentLoaded", () => {
  // Two roles that the tools below the theme set and assistive technology does not accept.
  // A child of role="list" is a listitem; docutils says doc-biblioentry, which is withdrawn.
  for (const entry of document.querySelectorAll('[role="doc-biblioentry"]')) {
    entry.setAttribute("role", "listitem");
  }
  // The book's title and the search button stand outside every landmark.
  const sidebar = document.querySelector(".bd-sidebar-primary");
  if (sidebar && !sidebar.hasAttribute("role")) {
    sidebar.setAttribute("role", "complementary");
    sidebar.setAttribute("aria-label", "The book");
  }

  // Boxes that scroll sideways show whether there is more to the right.
  const boxes = "div.math, pre, .pst-scrollable-table-container, div.cell_output .output";
  const sizes = new ResizeObserver((changes) => changes.forEach(({ target }) => tell(target)));
  const tell = (box) => {
    box.classList.toggle("goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  };
  for (const box of document.querySelectorAll(`article :is(${boxes})`)) {
    box.addEventListener("scroll", () => tell(box), { passive: true });
    sizes.observe(box);
  }

  // The search shows a place of the article's text: not of the menu beside it, no TeX, and words of
  // neighbouring cells apart.
  if (typeof Search !== "undefined") {
    const whole = Search.htmlToText;
    Search.htmlToText = (html, anchor) => {
      const article = new DOMParser().parseFromString(html, "text/html").querySelector("article");
      if (!article) return whole(html, anchor);
      const part = (anchor && article.querySelector(anchor)) || article;
      for (const left of part.querySelectorAll(".headerlink, .math, script, style")) left.remove();
      for (const block of part.querySelectorAll("dt, td, th, p, li, pre")) block.append(" ");
      return part.textContent.replace(/\s+/g, " ");
    };
  }
});
