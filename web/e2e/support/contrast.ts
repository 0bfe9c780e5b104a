// Whether text can be read: contrast as WCAG 2.2 has it, of every text that a page shows, against what is behind it.
import type { Page } from "playwright-core";

/** AA asks 4.5 : 1, and 3 : 1 of large text: from 24 px, or from 18.66 px when bold. */
export async function tooFaint(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    type Colour = [number, number, number, number];
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    if (canvas === null) throw new Error("no canvas");
    // Whatever notation a colour comes in, a pixel of it is four numbers.
    const parse = (colour: string): Colour => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r = 0, g = 0, b = 0, a = 0] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = (top: Colour, below: Colour): Colour => {
      const mix = (index: 0 | 1 | 2) => top[index] * top[3] + below[index] * (1 - top[3]);
      return [mix(0), mix(1), mix(2), 1];
    };
    const behind = (element: Element | null): Colour => {
      if (element === null)
        return parse(getComputedStyle(document.documentElement).colorScheme === "dark" ? "#000" : "#fff");
      const own = parse(getComputedStyle(element).backgroundColor);
      return own[3] === 1 ? own : over(own, behind(element.parentElement));
    };
    const luminance = ([r, g, b]: Colour) => {
      const linear = [r, g, b].map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * (linear[0] ?? 0) + 0.7152 * (linear[1] ?? 0) + 0.0722 * (linear[2] ?? 0);
    };
    const found: string[] = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.textContent?.trim() ?? "";
      const element = texts.currentNode.parentElement;
      if (text === "" || element === null || !element.checkVisibility({ opacityProperty: true })) continue;
      // What is only for screen readers is hidden in a point.
      if (element.getBoundingClientRect().width <= 1) continue;
      const style = getComputedStyle(element);
      const ground = behind(element);
      const [bright = 0, dark = 0] = [luminance(over(parse(style.color), ground)), luminance(ground)].sort(
        (a, b) => b - a,
      );
      const ratio = (bright + 0.05) / (dark + 0.05);
      const size = Number.parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      // What cannot be used now is exempt.
      const isOff = element.closest(":disabled") !== null;
      if (!isOff && ratio < (isLarge ? 3 : 4.5))
        found.push(`${ratio.toFixed(2)} : 1 for ${JSON.stringify(text)}`);
    }
    return found;
  });
}
