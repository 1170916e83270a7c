// Small pieces that several views use.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { known, t, translated } from "./strings.js";

/** A word that explains itself on hover, on focus and to screen readers. */
export function hint(id, word, text) {
  return html`<span class="hint">
    <button type="button" class="plain" aria-describedby=${id} @keydown=${hideOnEscape}>
      ${word}
    </button>
    <span class="tip" role="tooltip" id=${id}>${text}</span>
  </span>`;
}

const hideOnEscape = (event) => event.key === "Escape" && event.currentTarget.blur();

/** A sentence of the server, in the page's language where that has it. */
export const said = (sentence) => {
  const words = translated(sentence);
  return words ? html`<span>${words}</span>` : html`<span lang="en">${sentence}</span>`;
};

/** What went wrong, and a way on. */
export function troubleBox(trouble, retry = null) {
  const wait = trouble.waitSeconds ? t("trouble.wait", { seconds: trouble.waitSeconds }) : "";
  return html`<div class="trouble" role="alert" data-kind=${trouble.kind}>
    <p><strong>${known(`trouble.${trouble.kind}`) ?? t("trouble.failed")}</strong> ${wait}</p>
    ${trouble.detail ? html`<p lang="en">${trouble.detail}</p>` : nothing}
    ${retry
      ? html`<button type="button" @click=${retry}>${t("trouble.retry")}</button>`
      : nothing}
  </div>`;
}

export const busy = (text, cancel = null) => html`<p class="busy">
  <span class="spinner" aria-hidden="true"></span> ${text}
  ${cancel ? html`<button type="button" @click=${cancel}>${t("cancel")}</button>` : nothing}
</p>`;

/** Save bytes or text as a file. */
export function save(content, name) {
  const url = content.startsWith?.("data:")
    ? content
    : URL.createObjectURL(new Blob([content], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  if (!content.startsWith?.("data:")) URL.revokeObjectURL(url);
}

/** Arrow keys move among the tabs of a list (WAI-ARIA, "Tabs"). */
export function arrowKeys(event) {
  const tabs = [...event.currentTarget.querySelectorAll("[role=tab]")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = tabs.at((tabs.indexOf(document.activeElement) + step) % tabs.length);
  next.focus();
  next.click();
}
