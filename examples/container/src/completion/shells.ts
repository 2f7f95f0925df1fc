import { ASK } from './ask.js';

/** For each shell what it is to read: it asks the command itself, so that it knows what the command knows. */
export const shells = {
  // Words by spaces alone: bash takes --pull=always and a:b apart, and puts back but what follows.
  bash: `_iso() {
  local words line
  read -ra words <<<"\${COMP_LINE:0:COMP_POINT}"
  [[ \${COMP_LINE:0:COMP_POINT} == *' ' ]] && words+=('')
  local current="\${words[-1]}" found
  COMPREPLY=()
  found=$(iso ${ASK} -- "\${words[@]:1}" 2>/dev/null) && compopt +o default 2>/dev/null
  [[ -n $found ]] || return
  while IFS=$'\t' read -r line _; do
    COMPREPLY+=("\${line#"\${current%"\${current##*[=:]}"}"}")
  done <<<"$found"
}
complete -o default -F _iso iso
`,
  zsh: `#compdef iso
_iso() {
  local -a found
  local word text lines known
  lines=$(iso ${ASK} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  known=$?
  while IFS=$'\t' read -r word text; do
    [[ -n $word ]] && found+=("\${word//:/\\:}:$text")
  done <<<"$lines"
  if (( known == 0 )); then _describe iso found; else _files; fi
}
if [ "\${funcstack[1]}" = _iso ]; then _iso "$@"; else compdef _iso iso; fi
`,
  // Files where the command knows no words.
  fish: `function __iso_words
  set -g __iso_found (iso ${ASK} -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
  test $status -eq 0
end
complete -c iso -n __iso_words -f -a '$__iso_found'
`,
} as const;
