// Options answer when they are chosen; without this script the answers are in sight.
document.documentElement.classList.add("scripted");
addEventListener("DOMContentLoaded", () => {
  for (const question of document.querySelectorAll(".quiz .question")) {
    const name = [...question.classList].find((c) => c.startsWith("answer-"));
    const right = Number(name.slice("answer-".length)) - 1;
    const options = [...question.querySelectorAll(".options > li")];
    options.forEach((option, index) => {
      const choose = () => {
        option.classList.add(index === right ? "right" : "wrong");
        if (index === right) question.classList.add("done");
      };
      option.tabIndex = 0;
      option.setAttribute("role", "button");
      option.addEventListener("click", choose);
      option.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose();
      });
    });
  }
});
