// Turns values into texts for people.

/** Class of a router's or the host's state, which gives it its colour. */
export function severity(state) {
  if (state === "in sync") return "good";
  if (state === "pending" || state === "starting") return "wait";
  if (state === "not supported" || state === "admin down") return "off";
  return "bad";
}

/** States of which an operator need not think. */
export const isFine = (state) => ["good", "off"].includes(severity(state));

/** "3 routers", "1 router". */
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Bytes, in powers of 1000 as network devices are counted. */
export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  let rest = number;
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(rest) : rest.toPrecision(3)} ${units[unit]}`;
}

/** Bits per second. */
export function rate(bytesPerSecond) {
  return bytes(bytesPerSecond * 8).replace(/B$/, "bit/s");
}

/** A time of day, with the date if it is not today's. */
export function clock(seconds) {
  if (!seconds) return "";
  const when = new Date(seconds * 1000);
  const time = when.toLocaleTimeString("en-GB");
  return when.toDateString() === new Date().toDateString() ? time : `${when.toLocaleDateString("en-CA")} ${time}`;
}

/** How long ago, or in how long. */
export function ago(seconds) {
  const distance = Date.now() / 1000 - seconds;
  const size = Math.abs(distance);
  const [number, unit] = size < 90 ? [size, "s"] : size < 5400 ? [size / 60, "min"]
    : size < 129600 ? [size / 3600, "h"] : [size / 86400, "days"];
  const text = `${Math.round(number)} ${unit}`;
  return distance >= 0 ? `${text} ago` : `in ${text}`;
}

/** Seconds since the epoch of an ISO 8601 text; 0 without one. */
export const epoch = (text) => (text ? Date.parse(text) / 1000 : 0);

/** The beginning of an id. */
export const short = (id) => id.slice(0, 8);
