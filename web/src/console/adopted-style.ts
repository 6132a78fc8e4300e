// <corral-style>: a style element without a <style> element. The page's policy refuses text in <style>,
// but not a sheet made through CSSOM; xterm.js is built to use this element instead (see build.mjs).
export class AdoptedStyle extends HTMLElement {
  readonly #sheet = new CSSStyleSheet();
  #text = "";

  override get textContent(): string {
    return this.#text;
  }

  override set textContent(text: string) {
    this.#text = text;
    this.#sheet.replaceSync(text);
  }

  connectedCallback(): void {
    if (!document.adoptedStyleSheets.includes(this.#sheet)) {
      document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.#sheet];
    }
  }

  disconnectedCallback(): void {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== this.#sheet);
  }
}

if (!customElements.get("corral-style")) {
  customElements.define("corral-style", AdoptedStyle);
}
