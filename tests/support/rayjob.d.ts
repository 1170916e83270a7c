// What may be written in a RayJob (ray.io/v1), after the types of KubeRay 1.5 (Apache-2.0):
// ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go. No package has them.
import type { IObjectMeta } from "@kubernetes-models/apimachinery/apis/meta/v1/ObjectMeta";
import type { IPodTemplateSpec } from "kubernetes-models/v1/PodTemplateSpec";
import type { IResourceRequirements } from "kubernetes-models/v1/ResourceRequirements";

type Strings = { [name: string]: string };

interface IGroup {
  rayStartParams: Strings;
  template: IPodTemplateSpec;
}

interface IHeadGroup extends IGroup {
  serviceType?: "ClusterIP" | "NodePort" | "LoadBalancer";
  enableIngress?: boolean;
}

interface IWorkerGroup extends IGroup {
  groupName: string;
  replicas?: number;
  minReplicas: number;
  maxReplicas: number;
  numOfHosts?: number;
  scaleStrategy?: { workersToDelete?: string[] };
}

interface IRayClusterSpec {
  headGroupSpec: IHeadGroup;
  workerGroupSpecs?: IWorkerGroup[];
  rayVersion?: string;
  authOptions?: { mode?: "disabled" | "token"; secretName?: string };
  enableInTreeAutoscaling?: boolean;
  autoscalerOptions?: {
    resources?: IResourceRequirements;
    image?: string;
    idleTimeoutSeconds?: number;
    upscalingMode?: "Default" | "Aggressive" | "Conservative";
  };
  headServiceAnnotations?: Strings;
  suspend?: boolean;
}

export interface IRayJob {
  apiVersion: "ray.io/v1";
  kind: "RayJob";
  metadata?: IObjectMeta;
  spec: {
    activeDeadlineSeconds?: number;
    backoffLimit?: number;
    rayClusterSpec?: IRayClusterSpec;
    submitterPodTemplate?: IPodTemplateSpec;
    metadata?: Strings;
    clusterSelector?: Strings;
    submitterConfig?: { backoffLimit?: number };
    managedBy?: "ray.io/kuberay-operator" | "kueue.x-k8s.io/multikueue";
    entrypoint?: string;
    runtimeEnvYAML?: string;
    jobId?: string;
    submissionMode?: "K8sJobMode" | "HTTPMode" | "InteractiveMode";
    entrypointResources?: string;
    entrypointNumCpus?: number;
    entrypointNumGpus?: number;
    ttlSecondsAfterFinished?: number;
    shutdownAfterJobFinishes?: boolean;
    suspend?: boolean;
  };
}
