# Read by guest.sh: hands process 1 over to systemd, with a bus and the command as the only units. Everything else that is installed
# stays out: whatever the host's own units are, they are not what is tested.
units=/etc/systemd/system
mount -t tmpfs -o mode=755 units $units
mkdir -p /run/dbus

cat > $units/iso.target << END
[Unit]
DefaultDependencies=no
AllowIsolate=yes
Requires=dbus.socket iso.service
END
# systemd looks for its bus by these two names.
cat > $units/dbus.socket << END
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
END
cat > $units/dbus.service << END
[Unit]
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket
[Service]
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
OOMScoreAdjust=-900
END
cat > $units/iso.service << END
[Unit]
DefaultDependencies=no
Requires=dbus.service
After=dbus.socket dbus.service
[Service]
Delegate=yes
OOMPolicy=continue
StandardOutput=null
StandardError=null
ExecStart=/run/vm/busybox sh /run/vm/service.sh
END

# At a boot it empties /tmp, where the command has its files by then.
ln -s /dev/null $units/systemd-tmpfiles-setup.service

cat > /run/vm/service.sh << END
exec 3> $(port status)
echo "ready $(uname -r)" >&3
/run/vm/busybox sh /run/vm/command < /dev/null > /run/vm/stdout 2> /run/vm/stderr 3>&-
echo "exit \$?" >&3
/run/vm/busybox sleep 1
/run/vm/busybox reboot -f
END
exec /lib/systemd/systemd --unit=iso.target --log-target=console --log-level=warning --show-status=no
