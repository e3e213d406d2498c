// Names for screen readers where the theme gives none, or one that hides what is written.
addEventListener("DOMContentLoaded", () => {
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  each("summary[aria-label], .search-button-field", (element) => element.removeAttribute("aria-label"));
  each("details > summary:has(.toctree-toggle)", (summary) => {
    const chapter = summary.closest("li").querySelector("a").textContent.trim();
    summary.setAttribute("aria-label", `Pages of ${chapter}`);
  });
  each(".citation-list", (list) => list.removeAttribute("role")); // its children are no list items
});
