// Starts the page: words, model, first picture of everything.

import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { ask, useKey } from "./api.js";
import { addChecks, checkView } from "./check_view.js";
import { drawView } from "./draw_view.js";
import { drawing, showPeople } from "./drawing.js";
import { busy, troubleBox } from "./parts.js";
import { readView } from "./read_view.js";
import { addPasted } from "./sources.js";
import { changed, onChange, state } from "./store.js";
import { language, languages, speak, t } from "./strings.js";

function page() {
  return html`<a class="skip" href="#main">${t("skip")}</a>
    <header>
      <h1>AffectGAN</h1>
      <nav aria-label=${t("nav")}>
        <ul>
          ${["read", "draw", "check"].map(
            (view) =>
              html`<li>
                <a href="#${view}" aria-current=${state.view === view ? "page" : nothing}
                  >${t(`${view}.title`)}</a
                >
              </li>`,
          )}
        </ul>
      </nav>
      <label class="language">
        <span>${t("language")}</span>
        <select id="language" @change=${changeLanguage}>
          ${languages.map(
            (tag) =>
              html`<option value=${tag} lang=${tag} ?selected=${tag === language}>
                ${new Intl.DisplayNames(tag, { type: "language" }).of(tag)}
              </option>`,
          )}
        </select>
      </label>
    </header>
    <main id="main" tabindex="-1">
      <p class="lead">${t("lead")}</p>
      ${state.wantsKey ? keyForm() : nothing} ${content()}
    </main>
    <footer>
      <p>${t("private")}</p>
      <p>
        <a href="docs">${t("interface")}</a> · ${card()}
      </p>
    </footer>
    <p class="said" role="status">${state.note}</p>`;
}

function content() {
  const { status, trouble } = state.start;
  if (status === "loading") return busy(t("loading"));
  if (status === "failed") return troubleBox(trouble, start);
  return { read: readView, draw: drawView, check: checkView }[state.view]();
}

const card = () =>
  state.model
    ? html`<a href="v1/models/${state.model.name}"
        >${t("card", { name: state.model.name, version: state.model.version })}</a
      >`
    : nothing;

/** Asked for when the server has refused for want of one. */
const keyForm = () => html`<form class="key" @submit=${takeKey}>
  <label>
    ${t("key.label")}
    <input name="key" type="password" autocomplete="off" required aria-describedby="key-why" />
  </label>
  <button>${t("key.use")}</button>
  <p id="key-why">${t("key.why")}</p>
</form>`;

async function takeKey(event) {
  event.preventDefault();
  useKey(event.currentTarget.elements.key.value);
  const { retry } = await import("./pictures.js");
  retry();
  if (state.view === "draw" && drawing.people.status === "failed") showPeople(drawing.firstSeed);
}

async function changeLanguage(event) {
  await speak(event.target.value);
  changed();
}

async function start() {
  state.start = { status: "loading", trouble: null };
  changed();
  try {
    const [{ models }, facts, presets] = await Promise.all([
      ask("v1/models"),
      ask("page/facts.json"),
      ask("page/presets.json"),
    ]);
    const model = models.find((one) => one.default) ?? models[0];
    const loaded = await ask(`v1/models/${model.name}`);
    Object.assign(state, { model, presets, card: loaded, units: facts.units });
    state.pictureOrigins = facts.picture_origins;
    state.start = { status: "ready", trouble: null };
  } catch (trouble) {
    state.start = { status: "failed", trouble };
  }
  show();
}

function show() {
  state.view = { "#draw": "draw", "#check": "check" }[location.hash] ?? "read";
  if (state.start.status === "ready" && state.view === "draw" && drawing.people.status === "none")
    showPeople(drawing.firstSeed);
  changed();
}

addEventListener("hashchange", show);
addEventListener("paste", (event) =>
  state.view === "check" ? addChecks(event.clipboardData?.files ?? []) : addPasted(event),
);
onChange(() => render(page(), document.body));
await speak();
start();
