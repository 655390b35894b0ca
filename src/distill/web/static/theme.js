// Sets the theme before anything is drawn, so that the page never flashes. A classic script for that reason.
(function () {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  function remembered() {
    try {
      return localStorage.getItem("distill.theme");
    } catch {
      return null;
    } // storage may be switched off
  }
  function apply() {
    document.documentElement.dataset.theme = remembered() || (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themechange"));
  }
  apply();
  system.addEventListener("change", apply);
})();
