import { describe, expect, it } from 'vitest';
import { render } from './template.js';

const data = {
  Name: '/web',
  State: { Running: true, ExitCode: 0 },
  Args: ['-c', 'true'],
  Config: { Labels: { 'a.b': 'c', x: '1' }, Env: [] as string[] },
  Networks: { app: { IP: '10.0.0.2' }, front: { IP: '10.0.1.2' } },
};

describe('a template', () => {
  // What docker prints for the same.
  it.each([
    ['{{.Name}}', '/web'],
    ['{{ .State.Running }}\\t{{.State.ExitCode}}', 'true\t0'],
    ['{{json .State}}', '{"Running":true,"ExitCode":0}'],
    ['{{.Args}} {{len .Args}} {{index .Args 1}}', '[-c true] 2 true'],
    ['{{index .Config.Labels "a.b"}}{{index .Config.Labels "none"}}', 'c<no value>'],
    ['{{.Config.Labels}}', 'map[a.b:c x:1]'],
    ['{{range .Networks}}{{.IP}} {{end}}', '10.0.0.2 10.0.1.2 '],
    ['{{range .Config.Env}}x{{else}}none{{end}}', 'none'],
    ['{{if .State.Running}}up{{else}}down{{end}}{{if .State.ExitCode}}!{{end}}', 'up'],
    ['{{range .Args}}{{if eq . "-c"}}flag{{else}}{{.}}{{end}},{{end}}', 'flag,true,'],
    ['{{.Name | upper}} {{join .Args "+"}} {{.State | json}}', '/WEB -c+true {"Running":true,"ExitCode":0}'],
  ])('%s', (template, text) => expect(render(template, data)).toBe(text));

  it.each([
    ['{{.Nme}}', 'there is no Nme'],
    ['{{.Name.x}}', 'there is no x'],
    ['{{if .Name}}', 'no {{end}}'],
    ['{{end}}', 'of nothing'],
    ['{{nothing .Name}}', 'not a'],
    ['{{}}', 'not an expression'],
    ['{{', 'has no }}'],
    ['{{.Name', 'has no }}'],
    ['{{join .Name "-"}}', 'join of a format is of a list'],
    ['{{join .Args "\\x"}}', 'not a text'],
  ])('%s is refused', (template, why) => expect(() => render(template, data)).toThrow(why));
});
