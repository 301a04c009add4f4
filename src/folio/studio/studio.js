// The studio: views come to life when Gradio puts them on the page, and one switch
// turns Gradio's parts and ours light or dark together.
const alive = new WeakSet();
const awaken = () => {
  for (const part of all(".fresh")) {
    if (alive.has(part)) continue;
    alive.add(part);
    bringToLife(part);
  }
};
new MutationObserver(awaken).observe(root, { childList: true, subtree: true });
const follow = () => {
  document.body?.classList.toggle("dark", dark());
  root.classList.toggle("dark", dark());
};
document.addEventListener("click", event => {
  if (event.target.closest("#theme")) { switchTheme(); follow(); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", follow);
document.addEventListener("DOMContentLoaded", follow);
follow();
awaken();
