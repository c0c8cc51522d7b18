// Polls the server and shows its answer. What is on the page is never older than LOST_MS: without an answer, it clears.

import { Trace } from './trace.js';

const POLL_MS = 100, LOST_MS = 1500;
const WORDS = { normal: 'NORMAL', suspected: 'SUSPECTED', 'no-decision': 'NO DECISION' };
const EXAMS = { normal: 'normal', suspected: 'suspected', undetermined: 'no-decision' };
const STATES = {
  live: ['LIVE', 'live', ''],
  stale: ['LIVE', 'live', 'NO RECENT SCORE'],
  frozen: ['FROZEN', 'frozen', 'FROZEN: NOT LIVE'],
  none: ['NO SIGNAL', 'gone', 'NO SIGNAL'],
  ended: ['ENDED', 'gone', 'STREAM ENDED'],
  disconnected: ['DISCONNECTED', 'gone', 'DISCONNECTED'],
};

const $ = (id) => document.getElementById(id);
const trace = new Trace($('trace'));
let stream = '', seen = 0, answeredAt = Date.now();

// The token came in the address once; the cookie keeps it, and the address need not show it.
if (location.search) history.replaceState(null, '', location.pathname);

function say(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

function shape(id, name) {
  if ($(id).getAttribute('href') !== `#${name}`) $(id).setAttribute('href', `#${name}`);
}

function enter(state, reason) {
  document.documentElement.dataset.state = state;
  const [word, symbol, stamp] = STATES[state];
  say('signal', word);
  shape('signal-shape', symbol);
  say('signal-reason', reason);
  for (const element of document.querySelectorAll('.stamp')) if (element.textContent !== stamp) element.textContent = stamp;
  document.title = `${word} \u00b7 vmeg-edge`;
}

// Nothing of an earlier answer stays.
function clearScore(why) {
  seen = 0;
  for (const id of ['frame', 'heat']) {
    $(id).hidden = true;
    $(id).width = $(id).height = 1;
  }
  verdict('no-score', 'NO SCORE', null, why);
  for (const id of ['age', 'stages']) say(id, '\u2013');
  $('age').className = '';
  say('frame-number', '');
}

function verdict(kind, word, score, reason) {
  $('decision').parentElement.className = `decision is-${kind}`;
  $('fill').className = `is-${kind}`;
  shape('decision-shape', kind);
  say('decision', word);
  say('score', score === null ? '\u2013' : score.toFixed(3));
  $('fill').style.width = `${100 * (score ?? 0)}%`;
  say('reason', reason);
}

async function picture(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
}

function paint(id, bitmap) {
  const canvas = $(id);
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext('2d').drawImage(bitmap, 0, 0);
  canvas.hidden = false;
  bitmap.close();
}

const ms = (value) => `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ms`;

function span(seconds) {
  const whole = Math.floor(seconds), pad = (value) => String(value).padStart(2, '0');
  return `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
}

function showResult(result, signal) {
  const note = signal === 'frozen' ? 'the picture stands still: no evidence' : result.reason;
  verdict(result.decision, WORDS[result.decision], result.probability, note);
  say('frame-number', [result.frame, result.captured_s === null ? '' : `at ${result.captured_s.toFixed(2)} s`,
    result.reused ? '(identical: same result again)' : ''].filter(String).join(' '));
  say('age', ms(result.age_ms) + (result.late ? ' LATE' : ''));
  $('age').className = result.late ? 'late' : '';
  say('stages', Object.entries(result.stages_ms).filter(([, value]) => value > 0)
    .map(([name, value]) => `${name} ${value.toFixed(1)}`).join(', ') + ' ms');
}

function showRule({ threshold, abstain }) {
  $('threshold').style.left = `${100 * threshold}%`;
  $('band').style.left = `${100 * (abstain ? abstain[0] : 0)}%`;
  $('band').style.width = `${100 * (abstain ? abstain[1] - abstain[0] : 0)}%`;
  say('scale-text', `threshold ${+threshold.toFixed(3)}` +
    (abstain ? `; no decision ${+abstain[0].toFixed(3)} to ${+abstain[1].toFixed(3)}` : ''));
}

function showStatus({ status, about, source, notices }) {
  const kind = EXAMS[status.exam] ?? 'no-decision';
  $('exam').parentElement.className = `exam is-${kind}`;
  shape('exam-shape', kind);
  say('exam', status.exam.toUpperCase());
  say('exam-reason', status.exam_reason);
  say('source', source);
  say('fps', `${status.scored_fps.toFixed(1)} / ${status.arrival_fps.toFixed(1)}`);
  say('frames', `${status.arrived} arrived, ${status.scored} scored (${status.reused} reused), ${status.late} late, ` +
    `${status.lost} lost, ${status.failed} failed, ${status.waiting} waiting`);
  const drops = Object.entries(status.dropped);
  say('dropped', drops.length ? drops.map(([reason, count]) => `${count}: ${reason}`).join('; ') : 'none');
  say('stream', `up ${span(status.uptime_s)}, reconnects: ${status.reconnects}`);
  say('about', [about.name, about.backend && `${about.backend} ${about.version ?? ''}`, about.device, about.precision,
    about.self_test && `self-test ${about.self_test}`, about.bundle && `bundle ${about.bundle.slice(0, 12)}`]
    .filter(Boolean).join(' \u00b7 ') || '\u2013');
  const footer = $('notices'), lines = notices.length ? notices : ['Research use only.'];
  if (footer.dataset.lines !== JSON.stringify(lines)) {
    footer.dataset.lines = JSON.stringify(lines);
    footer.replaceChildren(...lines.map((text) => Object.assign(document.createElement('p'), { textContent: text })));
  }
}

function show(answer, bitmaps) {
  const { result, signal } = answer;
  const state = answer.ended ? 'ended' : result === null && signal !== 'none' ? 'stale' : signal;
  if (stream !== answer.stream) {
    // Another server behind the same address: its numbers mean other pictures, so all is asked for anew.
    stream = answer.stream;
    trace.forget();
    if (seen) {
      clearScore('');
      return;
    }
  }
  if (result === null) clearScore(state === 'stale' ? 'no new score in the last seconds' : '');
  else {
    if (bitmaps) {
      paint('frame', bitmaps[0]);
      paint('heat', bitmaps[1]);
      seen = result.number;
    }
    showResult(result, signal);
  }
  enter(state, answer.signal_reason && `${answer.signal_reason} \u00b7 ${span(answer.signal_for_s)}`);
  showRule(answer.rule);
  showStatus(answer);
  trace.take(answer.trace);
  trace.draw(answer.trace, answer.rule, answer.now_s);
}

async function poll() {
  const asked = Date.now();
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), LOST_MS);
  try {
    const reply = await fetch(`live.json?seen=${seen}&since=${trace.newest}`, { cache: 'no-store', signal: late.signal });
    if (!reply.ok) throw new Error(reply.status === 401 ? 'the token is not accepted' : `the server says ${reply.status}`);
    const answer = await reply.json();
    const bitmaps = answer.pictures && (await Promise.all([picture(answer.pictures.frame), picture(answer.pictures.heat)]));
    if (Date.now() - asked < LOST_MS) {
      show(answer, bitmaps);
      answeredAt = asked;
    }
  } catch (error) {
    if (late.signal.aborted || error instanceof TypeError) watch();
    else disconnect(error.message);
  } finally {
    clearTimeout(timer);
  }
  setTimeout(poll, Math.max(10, POLL_MS - (Date.now() - asked)));
}

function disconnect(why) {
  clearScore('');
  enter('disconnected', why);
  for (const id of ['fps', 'frames', 'dropped', 'stream']) say(id, '\u2013');
  say('exam', '\u2013');
  say('exam-reason', '');
  shape('exam-shape', 'no-score');
  $('exam').parentElement.className = 'exam is-no-score';
}

function watch() {
  if (Date.now() - answeredAt > LOST_MS) disconnect('the server does not answer');
}

clearScore('');
setInterval(watch, 100);
document.addEventListener('visibilitychange', watch);
poll();
