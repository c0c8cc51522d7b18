// The score over time on a canvas. A time without evidence is a gap, never a line across it.

const INK = '#f0f0f0', FAINT = '#a8a8a8', GRID = '#3a3a3a', BAND = '#3c3c3c', NORMAL = '#5ab4e6', SUSPECTED = '#e69f00';
const ABSTAINED = '#b4b4b4', FROZEN = '#ffd54a';

export class Trace {
  constructor(canvas) {
    this.canvas = canvas;
    this.forget();
  }

  forget() {
    this.points = new Map();
    this.newest = 0;
  }

  // The newest step may still grow, so it is asked for again.
  take({ points, steps }) {
    for (const point of points) {
      this.points.set(point[0], point);
      this.newest = Math.max(this.newest, point[0]);
    }
    for (const index of this.points.keys()) if (index <= this.newest - steps) this.points.delete(index);
  }

  draw({ step_s, steps }, rule, nowS) {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width || !height) return;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const pen = this.canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const left = 34, right = width - 4, top = 6, bottom = height - 32;
    const newest = nowS / step_s;
    const x = (index) => right - ((newest - index) * (right - left)) / steps;
    const y = (value) => bottom - value * (bottom - top);
    pen.font = '12px system-ui, sans-serif';
    if (rule.abstain) {
      pen.fillStyle = BAND;
      pen.fillRect(left, y(rule.abstain[1]), right - left, y(rule.abstain[0]) - y(rule.abstain[1]));
    }
    pen.strokeStyle = GRID;
    pen.fillStyle = FAINT;
    pen.textAlign = 'right';
    for (const value of [0, 0.5, 1]) {
      line(pen, left, y(value), right, y(value));
      pen.fillText(value.toString(), left - 6, y(value) + 4);
    }
    for (let minute = 0; minute <= 5; minute++) {
      const at = right - (minute * 60 / step_s) * (right - left) / steps;
      line(pen, at, top, at, bottom + 12);
      pen.textAlign = minute === 0 ? 'right' : minute === 5 ? 'left' : 'center';
      pen.fillText(minute === 0 ? 'now' : `\u2212${minute} min`, at, height - 4);
    }
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();
    const across = Math.max(2, (right - left) / steps);
    let before = null;
    for (const point of [...this.points.values()].sort((a, b) => a[0] - b[0])) {
      const [index, mean, low, high, abstained, frozen] = point;
      const at = x(index + 0.5);
      if (mean !== null) {
        pen.fillStyle = mean >= rule.threshold ? SUSPECTED : NORMAL;
        pen.globalAlpha = 0.55;
        pen.fillRect(at - across / 2, y(high) - 1, across, Math.max(2, y(low) - y(high) + 2));
        pen.globalAlpha = 1;
        pen.strokeStyle = INK;
        pen.lineWidth = 2;
        if (before && before[0] === index - 1) line(pen, x(before[0] + 0.5), y(before[1]), at, y(mean));
        else pen.strokeRect(at - 0.5, y(mean) - 0.5, 1, 1);
        before = [index, mean];
      }
      pen.lineWidth = 1;
      if (abstained && mean === null) {
        pen.fillStyle = ABSTAINED;
        pen.fillRect(at - across / 2, bottom + 2, across, 4);
      }
      if (frozen && mean === null) {
        pen.fillStyle = FROZEN;
        pen.fillRect(at - across / 2, bottom + 7, across, 5);
      }
    }
    pen.restore();
    pen.strokeStyle = INK;
    pen.setLineDash([6, 4]);
    line(pen, left, y(rule.threshold), right, y(rule.threshold));
    pen.setLineDash([]);
  }
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}
