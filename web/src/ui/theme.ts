/** Light or dark: as the system says, or as the person chose. */

import { say } from "./dom";

/** Name of the choice in the browser's storage. */
const STORED = "waystation-theme";

const THEMES = ["auto", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

/** The theme after this one. */
export function nextTheme(theme: Theme): Theme {
  return THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
}

/** Makes the button change the theme, and shows the one chosen before. */
export function themeButton(button: HTMLElement): void {
  let theme = THEMES.find((each) => each === localStorage.getItem(STORED)) ?? "auto";
  const show = () => {
    document.documentElement.dataset["theme"] = theme;
    say(button, `Theme: ${theme}`);
  };
  button.onclick = () => {
    theme = nextTheme(theme);
    localStorage.setItem(STORED, theme);
    show();
  };
  show();
}
