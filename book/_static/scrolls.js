// A figure or table that is wider than its column scrolls; custom.css says so wherever this finds one.
const boxes = "figure, div.output.text_html, div.pst-scrollable-table-container";
const mark = new ResizeObserver((entries) =>
  entries.forEach(({ target }) => target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth)));
addEventListener("DOMContentLoaded", () => document.querySelectorAll(boxes).forEach((box) => mark.observe(box)));
