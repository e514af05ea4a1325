"use strict";
// Makes elements of text. Text never becomes markup.

/** Shows characters that print nothing or turn text round: control characters, marks of direction, odd spaces, bytes
    that are not UTF-8. */
function printable(text) {
  return String(text).replace(/(?! )[\p{C}\p{Z}]/gu, (letter) => {
    const code = letter.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return "\\x" + (code - 0xdc00).toString(16);
    if (code === 10) return "\\n";
    return code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : `\\u{${code.toString(16)}}`;
  });
}

/** An element with properties and children; a text among them is shown as `printable` has it. */
function make(name, properties, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children.filter((one) => one !== null).map((one) => one instanceof Node ? one : printable(one)));
  return made;
}

function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
}

function bytes(value) {
  for (const [unit, size] of [["MiB", 2 ** 20], ["KiB", 2 ** 10]]) if (value >= size) return `${number(value / size, 3)} ${unit}`;
  return `${value} bytes`;
}

function percent(value) { return `${number(100 * value, 3)} %`; }

function plural(count, word) { return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`; }

function time(seconds) { return new Date(seconds * 1000).toLocaleString("en-GB", {dateStyle: "medium", timeStyle: "medium"}); }

/** Shows the first of some addresses that the browser can open; `none` is called if it can open none. */
function showFirst(image, addresses, none) {
  const [first, ...rest] = addresses;
  image.onload = () => { image.hidden = false; };
  image.onerror = () => showFirst(image, rest, none);
  if (first === undefined) {
    image.onerror = null;
    image.hidden = true;
    image.removeAttribute("src");
    none();
  } else {
    image.src = first;
  }
}
