'use strict';
/* Values under the pointer. */
for (const figure of document.querySelectorAll('.chart')) {
    const data = JSON.parse(figure.querySelector('script').textContent);
    const text = point => point[1] === null ? '-' :
        point.length > 2 ? point[2] : String(Number(point[1].toPrecision(6)));
    const nearest = (points, x) => {
        let low = 0, high = points.length - 1;
        while (low < high) {
            const middle = (low + high) >> 1;
            if (points[middle][0] < x) low = middle + 1; else high = middle;
        }
        return low > 0 && x - points[low - 1][0] < points[low][0] - x ?
            points[low - 1] : points[low];
    };
    for (const plot of figure.querySelectorAll('.plot')) {
        const cursor = document.createElement('div'), box = document.createElement('div');
        cursor.className = 'cursor';
        box.className = 'hover';
        cursor.hidden = box.hidden = true;
        plot.append(cursor, box);
        plot.addEventListener('pointermove', event => {
            const area = plot.getBoundingClientRect();
            const share = (event.clientX - area.left) / area.width;
            if (share < 0 || share > 1) return;
            const x = data.low + share * (data.high - data.low);
            const rows = data.series.filter(s => s.points.length);
            const longest = rows.reduce((a, b) => b.points.length > a.points.length ? b : a);
            const at = nearest(longest.points, x)[0];
            box.replaceChildren();
            const head = document.createElement('div');
            head.textContent = data.name + ' ' + Number(at.toPrecision(9));
            box.append(head);
            for (const s of rows) {
                const row = document.createElement('div'), value = document.createElement('i');
                row.className = 'key c' + s.color;
                value.textContent = text(nearest(s.points, at));
                row.append(s.name + ' ', value);
                box.append(row);
            }
            const left = 100 * (at - data.low) / (data.high - data.low);
            cursor.style.left = left + '%';
            box.style.left = left < 50 ? 'calc(' + left + '% + 8px)' : '';
            box.style.right = left < 50 ? '' : 'calc(' + (100 - left) + '% + 8px)';
            cursor.hidden = box.hidden = false;
        });
        plot.addEventListener('pointerleave', () => { cursor.hidden = box.hidden = true; });
    }
}
/* Tables sort by the column whose head is clicked: numbers by their value, the largest first. */
for (const table of document.querySelectorAll('table')) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    const key = (row, i) => {
        const cell = row.cells[i], value = cell.dataset.value;
        return value === undefined ? cell.textContent :
            value === 'null' ? -Infinity : Number(value);
    };
    heads.forEach((head, i) => {
        const sort = () => {
            const number = head.classList.contains('number'), was = head.getAttribute('aria-sort');
            const up = was === 'none' ? !number : was === 'descending';
            heads.forEach(other => other.setAttribute('aria-sort', 'none'));
            head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
            const compare = (a, b) => number ? key(a, i) - key(b, i) :
                String(key(a, i)).localeCompare(String(key(b, i)), undefined, {numeric: true});
            body.append(...[...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a)));
        };
        head.setAttribute('aria-sort', 'none');
        head.tabIndex = 0;
        head.addEventListener('click', sort);
        head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
    });
}
/* Paper shows what is folded. */
addEventListener('beforeprint', () => {
    for (const e of document.querySelectorAll('details')) e.open = true;
});
