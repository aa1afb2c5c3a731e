//! Whole bodies, field by field: what a client is sent for a run that completed, paused, failed or was cancelled.

use holdfast::model::ModelError;
use holdfast::session::{Reply, Tokens};
use serde_json::json;

use crate::support::{Speaker, TestHost, asked, call, calls, replied, say};

/// Does what the message says.
async fn host() -> TestHost {
    let model = Speaker::new(|request| {
        let tokens = Tokens { input: Some(10), output: Some(5), ..Tokens::default() };
        let reply = match (asked(request).as_str(), replied(request)) {
            ("fail", _) => return Err(ModelError::Refused("it does not want to".to_owned())),
            ("pause", 0) => calls([
                ("probe__echo", json!({"text": "first"})),
                ("probe__effect", json!({"key": "a"})),
                ("probe__effect", json!({"key": "b"})),
            ]),
            ("echo", 0) => call("probe__echo", json!({"text": "hello"})),
            _ => say("Done."),
        };
        Ok(Reply { reasoning: Some("Hm.".to_owned()), tokens, ..reply })
    });
    TestHost::with_probe(model).await
}

#[tokio::test(flavor = "multi_thread")]
async fn completed() {
    insta::assert_json_snapshot!(host().await.run("echo").await, @r#"
    {
      "runId": "019b76da-a800-7000-8000-000000000002",
      "sessionId": "019b76da-a800-7000-8000-000000000001",
      "status": "COMPLETED",
      "content": "Done.",
      "metadata": {
        "model": "script::v1",
        "agentVersion": 0,
        "usage": {
          "inputTokens": 20,
          "outputTokens": 10,
          "totalTokens": 30,
          "cost": null
        }
      },
      "tools": [
        {
          "id": "call-1",
          "toolName": "probe__echo",
          "toolInput": "{\"text\":\"hello\"}",
          "toolOutput": "hello",
          "durationMs": 0,
          "isError": false,
          "outcome": "ok"
        }
      ],
      "reasoningSteps": [
        "Hm.",
        "Hm."
      ],
      "metrics": {
        "inputTokens": 20,
        "outputTokens": 10,
        "reasoningTokens": null,
        "llmCallCount": 2,
        "toolCallCount": 1,
        "errorCount": 0,
        "durationMs": 0,
        "model": "script::v1",
        "errorType": null,
        "errorMessage": null
      }
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused() {
    insta::assert_json_snapshot!(host().await.run("pause").await, @r#"
    {
      "runId": "019b76da-a800-7000-8000-000000000002",
      "sessionId": "019b76da-a800-7000-8000-000000000001",
      "status": "PAUSED",
      "content": "",
      "metadata": {
        "model": "script::v1",
        "agentVersion": 0,
        "usage": {
          "inputTokens": 10,
          "outputTokens": 5,
          "totalTokens": 15,
          "cost": null
        },
        "message": "Agent wants to call probe__effect. Approve or reject this call.",
        "requiredAction": {
          "type": "TOOL_APPROVAL",
          "approvalId": "019b76da-a800-7000-8000-000000000005",
          "toolCallId": "call-2",
          "tool": "probe__effect",
          "toolName": "probe__effect",
          "args": "{\"key\":\"a\"}",
          "message": "Agent wants to call probe__effect. Approve or reject this call.",
          "expiresAt": "2026-01-02T00:00:00.000Z",
          "runId": "019b76da-a800-7000-8000-000000000002",
          "sessionId": "019b76da-a800-7000-8000-000000000001"
        },
        "requiredActions": [
          {
            "type": "TOOL_APPROVAL",
            "approvalId": "019b76da-a800-7000-8000-000000000005",
            "toolCallId": "call-2",
            "tool": "probe__effect",
            "toolName": "probe__effect",
            "args": "{\"key\":\"a\"}",
            "message": "Agent wants to call probe__effect. Approve or reject this call.",
            "expiresAt": "2026-01-02T00:00:00.000Z",
            "runId": "019b76da-a800-7000-8000-000000000002",
            "sessionId": "019b76da-a800-7000-8000-000000000001"
          },
          {
            "type": "TOOL_APPROVAL",
            "approvalId": "019b76da-a800-7000-8000-000000000006",
            "toolCallId": "call-3",
            "tool": "probe__effect",
            "toolName": "probe__effect",
            "args": "{\"key\":\"b\"}",
            "message": "Agent wants to call probe__effect. Approve or reject this call.",
            "expiresAt": "2026-01-02T00:00:00.000Z",
            "runId": "019b76da-a800-7000-8000-000000000002",
            "sessionId": "019b76da-a800-7000-8000-000000000001"
          }
        ]
      },
      "tools": [
        {
          "id": "call-1",
          "toolName": "probe__echo",
          "toolInput": "{\"text\":\"first\"}",
          "toolOutput": "first",
          "durationMs": 0,
          "isError": false,
          "outcome": "ok"
        }
      ],
      "reasoningSteps": [
        "Hm."
      ],
      "metrics": {
        "inputTokens": 10,
        "outputTokens": 5,
        "reasoningTokens": null,
        "llmCallCount": 1,
        "toolCallCount": 1,
        "errorCount": 0,
        "durationMs": 0,
        "model": "script::v1",
        "errorType": null,
        "errorMessage": null
      }
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed() {
    insta::assert_json_snapshot!(host().await.run("fail").await, @r#"
    {
      "runId": "019b76da-a800-7000-8000-000000000002",
      "sessionId": "019b76da-a800-7000-8000-000000000001",
      "status": "FAILED",
      "content": "",
      "metadata": {
        "model": "script::v1",
        "agentVersion": 0,
        "usage": {
          "inputTokens": null,
          "outputTokens": null,
          "totalTokens": null,
          "cost": null
        },
        "message": "the model provider refused the request: it does not want to"
      },
      "tools": [],
      "reasoningSteps": [],
      "metrics": {
        "inputTokens": null,
        "outputTokens": null,
        "reasoningTokens": null,
        "llmCallCount": 0,
        "toolCallCount": 0,
        "errorCount": 1,
        "durationMs": 0,
        "model": "script::v1",
        "errorType": "model_error",
        "errorMessage": "the model provider refused the request: it does not want to"
      }
    }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_as_it_is_read() {
    let host = host().await;
    let paused = host.run("pause").await;
    host.cancel(&paused).await;
    insta::assert_json_snapshot!(host.read(&paused).await, @r#"
    {
      "runId": "019b76da-a800-7000-8000-000000000002",
      "sessionId": "019b76da-a800-7000-8000-000000000001",
      "status": "CANCELLED",
      "content": "",
      "metadata": {
        "model": "script::v1",
        "agentVersion": 0,
        "usage": {
          "inputTokens": 10,
          "outputTokens": 5,
          "totalTokens": 15,
          "cost": null
        },
        "message": "The run was cancelled."
      },
      "tools": [
        {
          "id": "call-1",
          "toolName": "probe__echo",
          "toolInput": "{\"text\":\"first\"}",
          "toolOutput": "first",
          "durationMs": 0,
          "isError": false,
          "outcome": "ok"
        }
      ],
      "reasoningSteps": [
        "Hm."
      ],
      "metrics": {
        "inputTokens": 10,
        "outputTokens": 5,
        "reasoningTokens": null,
        "llmCallCount": 1,
        "toolCallCount": 1,
        "errorCount": 0,
        "durationMs": 0,
        "model": "script::v1",
        "errorType": null,
        "errorMessage": null
      },
      "id": "019b76da-a800-7000-8000-000000000002",
      "agentId": "agent",
      "userId": "admin",
      "orgId": "default",
      "input": "pause",
      "output": "",
      "requiredAction": null,
      "createdAt": "2026-01-01T00:00:00.000Z",
      "startedAt": "2026-01-01T00:00:00.000Z",
      "completedAt": "2026-01-01T00:00:00.000Z",
      "updatedAt": "2026-01-01T00:00:00.000Z"
    }
    "#);
}
