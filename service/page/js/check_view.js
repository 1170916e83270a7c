// "Check a picture": which marks pictures have, in words. What is asked waits its turn: one at a time.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { Trouble, ask, only, pictureForm } from "./api.js";
import { busy, troubleBox } from "./parts.js";
import { announce, changed } from "./store.js";
import { known, listed, t } from "./strings.js";

const checks = []; // {name, blob, url, result, trouble}, the newest first
let latest = Promise.resolve();

export function checkView() {
  return html`<h2>${t("check.title")}</h2>
    <p>${t("check.lead")}</p>
    <div class="drop" @dragover=${(event) => event.preventDefault()} @drop=${dropped}>
      <label class="button">
        ${t("choose.files")}
        <input id="check-files" type="file" multiple accept="image/*" class="inside" @change=${taken} />
      </label>
      <p class="quiet">${t("check.drop")}</p>
    </div>
    ${checks.map(checkedPicture)}
    <p class="quiet">${t("check.limits")}</p>`;
}

export function addChecks(files) {
  for (const blob of files) {
    const check = { name: blob.name, blob, url: URL.createObjectURL(blob), result: null, trouble: null };
    checks.unshift(check);
    latest = latest.then(() => look(check));
  }
  changed();
}

function taken(event) {
  addChecks(event.target.files);
  event.target.value = "";
}

function dropped(event) {
  event.preventDefault();
  addChecks(event.dataTransfer.files);
}

async function look(check) {
  check.trouble = null;
  try {
    check.result = only(await ask("v1/verify", pictureForm(check.blob, {})));
    announce(`${check.name}: ${t(`check.verdict.${check.result.verdict}`)}`);
  } catch (trouble) {
    check.trouble = trouble instanceof Trouble ? trouble : new Trouble("failed", `${trouble}`);
    changed();
  }
}

const checkedPicture = (check) => html`<section class="columns check" aria-label=${check.name}>
  <img src=${check.url} alt="" />
  <div>
    <h3>${check.name}</h3>
    ${answerOf(check)}
  </div>
</section>`;

function answerOf(check) {
  if (check.trouble) return troubleBox(check.trouble, () => look(check));
  if (!check.result) return busy(t("check.busy"));
  const { verdict } = check.result;
  return html`<p data-verdict=${verdict}><strong>${t(`check.verdict.${verdict}`)}</strong></p>
    <ul>
      ${facts(check.result).map((fact) => html`<li>${fact}</li>`)}
    </ul>`;
}

function facts({ signed, watermark, metadata, edited }) {
  const found = [signature(signed)];
  if (signed?.valid) {
    const { model, actions, ingredients } = signed.claim;
    if (model) found.push(t("check.model", { model }));
    const done = actions.map((action) => known(`check.action.${action}`)).filter(Boolean);
    if (done.length) found.push(t("check.actions", { actions: listed(done) }));
    if (edited) found.push(t("check.edited"));
    if (ingredients) found.push(t("check.ingredients", { count: ingredients }));
  }
  found.push(watermarked(watermark));
  if (metadata) found.push(t("check.metadata"));
  return found;
}

function signature(signed) {
  if (!signed) return t("check.unsigned");
  const issuer = signed.issuer || t("check.nobody");
  if (!signed.valid) return t("check.broken", { issuer });
  return t(signed.trusted ? "check.trusted" : "check.untrusted", { issuer });
}

function watermarked({ found, model, payload }) {
  if (!found) return t("check.no_watermark");
  return model ? t("check.watermark", { model }) : t("check.watermark_other", { payload });
}
