// Talks to the server: the token, questions, and the stream of server-sent events.
//
// The token comes in the fragment of the first address, which a browser sends to nobody, and is kept for this tab only.
// It goes in a header: that is why EventSource, which has none, is not used.

const KEY = "dvr-agent-token";
const SILENT_MS = 20000; // the server sends something every five seconds
const PAUSES_MS = [500, 1000, 2000, 5000, 10000];

/** The server does not answer a question; kind is "missing", "unreachable", "bad", "busy", "failed" or "token". */
export class QuestionError extends Error {
  constructor(kind, text) {
    super(text);
    this.kind = kind;
  }
}

/** Take the token out of the address bar. */
export function takeToken() {
  const match = /^#token=([\w-]+)/.exec(location.hash);
  if (match === null) return;
  sessionStorage.setItem(KEY, match[1]);
  history.replaceState(null, "", "#/");
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const keepToken = (token) => sessionStorage.setItem(KEY, token);
export const forgetToken = () => sessionStorage.removeItem(KEY);

const headers = () => ({Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}`});

async function refusal(response) {
  let answer = {};
  try {
    answer = await response.json();
  } catch {
    // no JSON: the status has to do
  }
  const kind = response.status === 401 ? "token" : answer.kind ?? "failed";
  return new QuestionError(kind, answer.error ?? `${response.status} ${response.statusText}`);
}

/** Return the answer to a question. */
export async function ask(question, argument = {}, signal = undefined) {
  const response = await fetch(`/api/${question}?${new URLSearchParams(argument)}`, {headers: headers(), signal});
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Follow the events for ever.  changed("live" | "lost" | "token", text) tells of the connection. */
export async function follow(receive, changed) {
  let tries = 0;
  for (;;) {
    try {
      await read(receive, () => {
        tries = 0;
        changed("live");
      });
      changed("lost", "the server closed the connection");
    } catch (error) {
      if (error.kind === "token") {
        changed("token", error.message);
        return;
      }
      changed("lost", error.message);
    }
    await new Promise((done) => setTimeout(done, PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)]));
    tries += 1;
  }
}

async function read(receive, begun) {
  const abort = new AbortController();
  let watchdog = setTimeout(() => abort.abort(), SILENT_MS);
  try {
    const response = await fetch("/events", {headers: headers(), signal: abort.signal});
    if (!response.ok) throw await refusal(response);
    begun();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const pieces = [];
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENT_MS);
      pieces.push(value);
      if (value.includes("\n\n") || value.startsWith("\n")) dispatch(pieces, receive);
    }
  } finally {
    clearTimeout(watchdog);
    abort.abort();
  }
}

/** Deliver the complete messages; the rest stays in pieces. */
function dispatch(pieces, receive) {
  const messages = pieces.join("").split("\n\n");
  pieces.length = 0;
  pieces.push(messages.pop());
  for (const message of messages) {
    const match = /^event: (.*)\ndata: (.*)$/.exec(message);
    if (match !== null) receive(match[1], JSON.parse(match[2]));
  }
}
