// Two roles that the tools below the theme set and assistive technology does not accept.
document.addEventListener("DOMContentLoaded", () => {
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
});
