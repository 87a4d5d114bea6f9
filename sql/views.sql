-- What is going on: each view shows the queues on which the viewer may SELECT at least one column.
CREATE VIEW qflow.queue_stats AS SELECT * FROM qflow.queue_stats_rows();
CREATE VIEW qflow.workflow_status AS SELECT * FROM qflow.workflow_status_rows();
CREATE VIEW qflow.lease_status AS SELECT * FROM qflow.lease_status_rows();
GRANT SELECT ON qflow.queue_stats, qflow.workflow_status, qflow.lease_status TO PUBLIC;
