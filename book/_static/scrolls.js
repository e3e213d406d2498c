// A figure or table that is wider than its column scrolls; custom.css says so wherever this finds one.
const boxes = "figure, div.output.text_html, div.pst-scrollable-table-container";
const mark = new ResizeObserver((entries) => entries.forEach(({ target }) => {
  const scrolls = target.scrollWidth > target.clientWidth;
  target.classList.toggle("scrolls", scrolls);
  if (scrolls) target.tabIndex = 0; // so that the arrow keys scroll it
  else target.removeAttribute("tabindex");
}));
// Equations are there once MathJax has set them.
addEventListener("load", () => window.MathJax?.startup?.promise?.then(() =>
  document.querySelectorAll("mjx-container[display]").forEach((box) => mark.observe(box))));
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("code .pre").forEach((word) => { // no line ends within --option
    if (/^--[\w-]{1,20}$/.test(word.textContent)) word.style.whiteSpace = "nowrap";
  });
  document.querySelectorAll(".cell_output > img").forEach((image) => { // a figure without a caption
    const figure = document.createElement("figure");
    image.replaceWith(figure);
    figure.append(image);
  });
  document.querySelectorAll(boxes).forEach((box) => mark.observe(box));
  // On a phone a figure fits the screen, and a button or a tap enlarges it.
  document.querySelectorAll("figure:has(img)").forEach((figure) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "enlarge" });
    const turn = (large) => {
      figure.classList.toggle("large", large);
      button.textContent = large ? "Fit the figure to the screen" : "Enlarge the figure";
    };
    button.addEventListener("click", () => turn(!figure.classList.contains("large")));
    figure.querySelector("img").addEventListener("click", () => turn(!figure.classList.contains("large")));
    turn(false);
    figure.before(button);
  });
});
