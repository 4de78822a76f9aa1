// The tabs: which panel is visible, and the keys that switch between them.

/** Make the tabs in `list` work; `onShow` is called with the name (tab-NAME) of the visible one. Returns a function that shows one. */
export function setUpTabs(list, onShow) {
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const nameOf = (tab) => tab.id.replace("tab-", "");
  const show = (name) => {
    for (const tab of tabs) {
      const isShown = nameOf(tab) === name;
      tab.ariaSelected = String(isShown);
      tab.tabIndex = isShown ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !isShown;
    }
    onShow(name);
  };
  list.addEventListener("click", (event) => event.target.role === "tab" && show(nameOf(event.target)));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const tab = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    show(nameOf(tab));
    tab.focus();
  });
  return show;
}
