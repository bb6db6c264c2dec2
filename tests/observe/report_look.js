/* Put into a page of par report or par compare by report.test: clicks and reads it, looks for what
   people would complain of, and leaves what it found as JSON in an element "found". */
'use strict';
const found = {problems: []};
const rgb = color => color.match(/\d+(\.\d+)?/g).map(Number);
const luminance = color => rgb(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = element => {
    for (let e = element; e; e = e.parentElement) {
        const color = getComputedStyle(e).backgroundColor;
        if (rgb(color).length < 4 || rgb(color)[3] > 0.5) return color;
    }
    return 'rgb(255, 255, 255)';
};
const contrast = (a, b) => {
    const x = luminance(a) + 0.05, y = luminance(b) + 0.05;
    return Math.max(x, y) / Math.min(x, y);
};
const shown = e => e.getClientRects().length > 0;

function lookAtTexts() {
    for (const e of document.querySelectorAll('h1,h2,h3,p,td,th,b,i,span,code,label,summary,a')) {
        if (!shown(e) || !e.textContent.trim()) continue;
        const c = contrast(getComputedStyle(e).color, ground(e));
        if (c < 4.5)
            found.problems.push('"' + e.textContent.slice(0, 30) + '" has a contrast of ' +
                c.toFixed(1));
    }
    for (const plot of document.querySelectorAll('.plot')) {
        const labels = [...plot.querySelectorAll('span')].filter(shown)
            .map(e => ({text: e.textContent, at: e.getBoundingClientRect()}));
        labels.forEach((l, i) => {
            if (l.at.left < -0.5 || l.at.right > innerWidth + 0.5)
                found.problems.push('"' + l.text + '" leaves the page');
            for (const o of labels.slice(0, i))
                if (Math.min(l.at.right, o.at.right) - Math.max(l.at.left, o.at.left) > 1 &&
                    Math.min(l.at.bottom, o.at.bottom) - Math.max(l.at.top, o.at.top) > 3)
                    found.problems.push('"' + l.text + '" lies on "' + o.text + '"');
        });
    }
    for (const e of document.querySelectorAll('.line, .dots')) {
        const c = contrast(getComputedStyle(e).stroke, ground(e.closest('.plot')));
        if (c < 3) found.problems.push('a line has a contrast of ' + c.toFixed(1));
    }
    if (document.documentElement.scrollWidth > innerWidth)
        found.problems.push('the page is wider than the window');
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    if ((luminance(ground(document.body)) < 0.5) !== dark)
        found.problems.push('not the reader\'s colors');
}

/* The values beside the pointer, at a share of a plot's width. */
function hover(plot, share) {
    const area = plot.getBoundingClientRect();
    plot.dispatchEvent(new PointerEvent('pointermove',
        {clientX: area.left + share * area.width, clientY: area.top + 5, bubbles: true}));
    const box = plot.querySelector('.hover');
    return box && !box.hidden ? [...box.children].map(e => e.textContent) : [];
}

function clickScale(chart) {
    const shows = () => [...chart.querySelectorAll('.plot')].filter(shown).map(e => e.className);
    found.scales = [shows()];
    for (const label of [...chart.querySelectorAll('.scales label')].reverse()) {
        label.click();
        found.scales.push(shows());
    }
}

function clickHead(table) {
    const column = () => [...table.tBodies[0].rows].map(r => r.cells[1].textContent);
    found.sorted = [column()];
    for (let i = 0; i < 2; i++) {
        table.tHead.rows[0].cells[1].click();
        found.sorted.push(column());
    }
}

lookAtTexts();
const charts = [...document.querySelectorAll('.chart')].filter(c => c.querySelector('.plot'));
found.titles = [...document.querySelectorAll('h2')].map(e => e.textContent);
found.charts = charts.map(c => c.querySelector('b').textContent);
found.tiles = Object.fromEntries([...document.querySelectorAll('.tile')]
    .map(e => [e.querySelector('span').textContent, e.querySelector('b').textContent]));
found.texts = [...document.querySelectorAll('p, td')].map(e => e.textContent.trim());
if (charts.length) {
    const plot = charts[0].querySelector('.plot');
    found.first = hover(plot, 0);
    found.middle = hover(plot, 0.5);
    found.last = hover(plot, 1);
    if (charts[0].querySelector('.scales')) clickScale(charts[0]);
}
const tables = [...document.querySelectorAll('#speed table, #differ table')];
if (tables.length) clickHead(tables[0]);
found.rects = document.querySelectorAll('#communication .cell').length;
found.frames = document.querySelectorAll('#communication .wrong').length;
found.lanes = [...document.querySelectorAll('.lane')]
    .map(e => [...e.querySelectorAll('rect')].map(r => r.textContent));
found.scripts = document.scripts.length;
found.handlers = [...document.querySelectorAll('*')]
    .filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length;
found.hit = window.hit === undefined ? 0 : 1;
found.loads = performance.getEntriesByType('resource').map(e => e.name);
const pre = document.createElement('pre');
pre.id = 'found';
pre.textContent = JSON.stringify(found);
document.body.append(pre);
