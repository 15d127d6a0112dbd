# Completion of kssh in fish: that of ssh.
complete -c kssh -w ssh
