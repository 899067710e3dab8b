"""Tests of the control plane: real RabbitMQ, MariaDB and Trove; a peer stands for the agent."""
