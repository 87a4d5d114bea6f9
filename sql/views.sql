-- What is going on: what the views show of queues is what the viewer may SELECT at
-- least one column of.
CREATE VIEW qflow.queue_stats AS SELECT * FROM qflow.queue_stats_rows();
CREATE VIEW qflow.workflow_status AS SELECT * FROM qflow.workflow_status_rows();
CREATE VIEW qflow.lease_status AS SELECT * FROM qflow.lease_status_rows();
CREATE VIEW qflow.resource_status AS SELECT * FROM qflow.resource_status_rows();
GRANT SELECT ON qflow.queue_stats, qflow.workflow_status, qflow.lease_status, qflow.resource_status TO PUBLIC;
