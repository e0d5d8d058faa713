# Queues a task, prints its id and returns at once.
main {
  *task_id = "";
  container_submit("containers.run", "/tempZone/home/alice/task_config.json", "dsp_resc", "", *task_id);
  writeLine("stdout", *task_id);
}
INPUT null
OUTPUT ruleExecOut
