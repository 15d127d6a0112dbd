# Completion of ksshctl in fish: verbs, options, and the names of links.

complete -c ksshctl -f
complete -c ksshctl -s h -l help -d 'Show help'
complete -c ksshctl -n __fish_use_subcommand -l version -d 'Show the version'

complete -c ksshctl -n __fish_use_subcommand -a status -d 'Show what runs'
complete -c ksshctl -n __fish_use_subcommand -a stop -d 'End links in order'
complete -c ksshctl -n __fish_use_subcommand -a restart -d 'End ssh and start it again'
complete -c ksshctl -n __fish_use_subcommand -a retry -d 'Start ssh now where it waits'
complete -c ksshctl -n __fish_use_subcommand -a wait -d 'Wait until a link is up'
complete -c ksshctl -n __fish_use_subcommand -a history -d 'Show outages and availability'
complete -c ksshctl -n __fish_use_subcommand -a log -d 'Print what kssh said of a link'
complete -c ksshctl -n __fish_use_subcommand -a keepalive -d 'Set keepalive up for plain ssh'
complete -c ksshctl -n __fish_use_subcommand -a doctor -d 'Find mistakes in the configuration'
complete -c ksshctl -n __fish_use_subcommand -a probe -d 'Measure when an idle connection is cut'

set -l running stop restart retry wait
set -l all status history log
complete -c ksshctl -n "__fish_seen_subcommand_from $running" -a '(command ksshctl status --names 2>/dev/null)'
complete -c ksshctl -n "__fish_seen_subcommand_from $all" -a '(command ksshctl status --all --names 2>/dev/null)'
complete -c ksshctl -n "__fish_seen_subcommand_from $running $all" -x -l user -a '(__fish_complete_users)' -d 'Links of another user'
complete -c ksshctl -n '__fish_seen_subcommand_from status' -l json -d 'As JSON'
complete -c ksshctl -n '__fish_seen_subcommand_from status' -l names -d 'Only the names'
complete -c ksshctl -n '__fish_seen_subcommand_from status' -l all -d 'Also tunnels that do not run'
complete -c ksshctl -n '__fish_seen_subcommand_from status' -l watch -d 'Show it again and again'
complete -c ksshctl -n '__fish_seen_subcommand_from stop wait' -x -l timeout -d 'Wait no longer'
complete -c ksshctl -n '__fish_seen_subcommand_from history' -x -s n -l outages -d 'Only the last'
complete -c ksshctl -n '__fish_seen_subcommand_from history' -l json -d 'As JSON'
complete -c ksshctl -n '__fish_seen_subcommand_from log' -s f -l follow -d 'Go on as more is said'
complete -c ksshctl -n '__fish_seen_subcommand_from log' -x -s n -l lines -d 'Only the last'
complete -c ksshctl -n '__fish_seen_subcommand_from keepalive; and not __fish_seen_subcommand_from show set unset confirm' -a 'show set unset confirm'
complete -c ksshctl -n '__fish_seen_subcommand_from doctor probe' -a '(__fish_print_hostnames)'
