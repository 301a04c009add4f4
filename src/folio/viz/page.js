// What only a page has: its switch, its copy buttons, and what it shows on paper.
document.getElementById("theme").onclick = switchTheme;
bringToLife(document);
for (const button of all(".copy")) button.onclick = async () => {
  try {
    await navigator.clipboard.writeText(button.previousSibling.textContent);
    button.textContent = "copied";
  } catch { getSelection().selectAllChildren(button.previousSibling); }
};
// Paper shows what a click would have opened.
addEventListener("beforeprint", () => all("details.asked").forEach(d => d.open = true));
