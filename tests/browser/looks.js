// What a person would complain of at the sight of a page.

const LEAST = 4.5; // WCAG 2.2, 1.4.3

function parse(color) {
  return color.match(/[0-9.]+/g).map(Number);
}

function luminance(color) {
  const [red, green, blue] = parse(color).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function background(element) {
  for (let node = element; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if ((parse(color)[3] ?? 1) === 1) return color;
  }
  return "rgb(255, 255, 255)";
}

// Elements with text of their own that has too little contrast.
function illegible() {
  return [...document.querySelectorAll("body *")].filter((node) => {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.matches(":disabled, option, title")) return false;
    const style = getComputedStyle(node);
    const color = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [dark, bright] = [luminance(color), luminance(background(node))].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05) < LEAST;
  }).map((node) => node.outerHTML.slice(0, 120));
}

// Controls and pictures that a screen reader has no name for.
function nameless() {
  const wanted = "a, button, input, select, summary, img, svg";
  return [...document.querySelectorAll(wanted)].filter((node) => {
    if (!node.checkVisibility() || node.closest("[aria-hidden]")) return false;
    const label = node.id && document.querySelector(`label[for="${node.id}"]`);
    const own = node.textContent.trim() || node.getAttribute("aria-label");
    return !(own || label || node.hasAttribute("alt"));
  }).map((node) => node.outerHTML.slice(0, 120));
}
