// The circumplex of affect (Russell 1980): valence to the right, arousal upwards, regions by name.

import { html, svg, nothing } from "../vendor/lit-html/lit-html.js";
import { t } from "./strings.js";

const SIDE = 260; // of the drawing, px
const RADIUS = 96;
// Degrees of Russell's words in his circle.
const REGIONS = {
  delighted: 25,
  excited: 52,
  alarmed: 97,
  distressed: 139,
  sad: 203,
  bored: 238,
  tired: 268,
  calm: 316,
};
const WORDS_AT = 0.8; // of the radius

const across = (valence) => SIDE / 2 + RADIUS * valence;
const up = (arousal) => SIDE / 2 - RADIUS * arousal;

/**
 * The circle with one point. `error`: {valence, arousal}, the typical error, drawn around it.
 * `onMove(valence, arousal)` makes it draggable; sliders beside it do the same by keyboard.
 */
export function circumplex({ valence, arousal, error = null, onMove = null, label }) {
  const known = typeof valence === "number" || typeof arousal === "number";
  const point = known ? dot(valence ?? 0, arousal ?? 0, error) : nothing;
  return html`<svg
    class="circumplex ${onMove ? "draggable" : ""}"
    viewBox="0 0 ${SIDE} ${SIDE}"
    role="img"
    aria-label=${label}
    @pointerdown=${onMove && ((event) => drag(event, onMove))}
    @pointermove=${onMove && ((event) => event.buttons && move(event, onMove))}
  >
    ${ground()} ${point}
  </svg>`;
}

const ground = () => svg`
  <circle class="rim" cx=${SIDE / 2} cy=${SIDE / 2} r=${RADIUS}></circle>
  <line class="axis" x1=${across(-1)} x2=${across(1)} y1=${up(0)} y2=${up(0)}></line>
  <line class="axis" y1=${up(-1)} y2=${up(1)} x1=${across(0)} x2=${across(0)}></line>
  ${Object.entries(REGIONS).map(([name, degrees]) => region(name, (degrees * Math.PI) / 180))}
  <text class="end" x=${SIDE / 2} y="14">${t("circumplex.activated")} +1</text>
  <text class="end" x=${SIDE / 2} y=${SIDE - 6}>${t("circumplex.calm")} −1</text>
  <text class="end" transform="translate(12 ${SIDE / 2}) rotate(-90)">
    ${t("circumplex.unpleasant")} −1
  </text>
  <text class="end" transform="translate(${SIDE - 6} ${SIDE / 2}) rotate(-90)">
    ${t("circumplex.pleasant")} +1
  </text>`;

const region = (name, angle) => svg`<text class="region"
  x=${across(WORDS_AT * Math.cos(angle))} y=${up(WORDS_AT * Math.sin(angle))}
  >${t(`circumplex.${name}`)}</text>`;

const dot = (valence, arousal, error) => svg`
  ${error ? svg`<ellipse class="error" cx=${across(valence)} cy=${up(arousal)}
    rx=${RADIUS * error.valence} ry=${RADIUS * error.arousal}></ellipse>` : nothing}
  <circle class="point" cx=${across(valence)} cy=${up(arousal)} r="6"></circle>`;

function drag(event, onMove) {
  event.currentTarget.setPointerCapture(event.pointerId);
  move(event, onMove);
}

function move(event, onMove) {
  const frame = event.currentTarget.getBoundingClientRect();
  const x = ((event.clientX - frame.left) / frame.width) * SIDE;
  const y = ((event.clientY - frame.top) / frame.height) * SIDE;
  const within = (value) => Math.round(100 * Math.max(-1, Math.min(1, value))) / 100;
  onMove(within((x - SIDE / 2) / RADIUS), within((SIDE / 2 - y) / RADIUS));
}
