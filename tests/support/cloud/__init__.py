"""A real cloud in private namespaces: neutron-server, RabbitMQ, MariaDB, hosts with Open vSwitch and their agents."""
